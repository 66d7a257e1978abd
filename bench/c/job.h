// What the hand-written programs share: maps, statistics, output, and one body for both hooks. A job is a function from a
// packet to its table entry; `JOB` makes the XDP and the TC program of it.
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>

// As many as a subtable of the datapath, so that both hash maps have as many buckets.
#ifndef MAX_FLOWS
#define MAX_FLOWS 200000
#endif

struct packet {
	void *data;
	void *end;
	__u32 ifindex;
	__u32 size;
};

struct value {
	__u64 packets;
	__u64 bytes;
	__u32 ifindex;
	__u8 dst[6];
	__u8 src[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

#define TABLE(name, key_type)                        \
	struct {                                     \
		__uint(type, BPF_MAP_TYPE_HASH);     \
		__uint(max_entries, MAX_FLOWS);      \
		__uint(map_flags, BPF_F_NO_PREALLOC); \
		__type(key, key_type);               \
		__type(value, struct value);         \
	} name SEC(".maps")

static __always_inline void count(struct value *value, __u32 size)
{
	__sync_fetch_and_add(&value->packets, 1);
	__sync_fetch_and_add(&value->bytes, size);
}

// `find` returns the entry of a packet or NULL; the packet is then left to the stack.
#define JOB(name, find)                                                                               \
	SEC("xdp") int name##_xdp(struct xdp_md *ctx)                                                 \
	{                                                                                             \
		struct packet p = { (void *)(long)ctx->data, (void *)(long)ctx->data_end,             \
				    ctx->ingress_ifindex };                                           \
		p.size = p.end - p.data;                                                              \
		struct value *value = find(&p);                                                       \
		if (!value)                                                                           \
			return XDP_PASS;                                                              \
		count(value, p.size);                                                                 \
		return bpf_redirect_map(&ports, value->ifindex, XDP_DROP);                            \
	}                                                                                             \
	SEC("tc") int name##_tc(struct __sk_buff *ctx)                                                \
	{                                                                                             \
		struct packet p = { (void *)(long)ctx->data, (void *)(long)ctx->data_end,             \
				    ctx->ifindex, ctx->len };                                         \
		struct value *value = find(&p);                                                       \
		if (!value)                                                                           \
			return TC_ACT_OK;                                                             \
		count(value, p.size);                                                                 \
		return bpf_redirect(value->ifindex, 0);                                               \
	}

char _license[] SEC("license") = "GPL";
