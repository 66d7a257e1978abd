// What the hand-written programs share: packets, statistics, output, and one body for both hooks. A job is a function
// from a packet to its table entry; `JOB` makes the XDP and the TC program of it.
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>

// Maps are declared with one entry: the bench gives them room for what it puts in.

struct packet {
	void *data;
	void *end;
	__u32 ifindex;
	__u32 size;
};

// What a rewriting job writes.
union rewrite {
	struct {
		__u8 dst[6];
		__u8 src[6];
	} hop;
	struct {
		__be32 addr;
		__be16 port;
	} nat;
};

struct value {
	__u64 packets;
	__u64 bytes;
	__u32 ifindex; // 0 drops
	union rewrite rewrite;
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
		__uint(max_entries, 1);              \
		__uint(map_flags, BPF_F_NO_PREALLOC); \
		__type(key, key_type);               \
		__type(value, struct value);         \
	} name SEC(".maps")

static __always_inline void count(struct value *value, __u32 size)
{
	__sync_fetch_and_add(&value->packets, 1);
	__sync_fetch_and_add(&value->bytes, size);
}

// The IPv4 header behind an untagged Ethernet header, if it has no options and the packet holds `more` bytes behind it.
static __always_inline struct iphdr *ipv4(struct packet *p, __u32 more)
{
	struct ethhdr *eth = p->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) + more > p->end || eth->h_proto != __builtin_bswap16(ETH_P_IP) || ip->ihl != 5)
		return 0;
	return ip;
}

// The same of an unfragmented UDP or TCP packet; ports follow it.
static __always_inline struct iphdr *ipv4_with_ports(struct packet *p)
{
	struct iphdr *ip = ipv4(p, sizeof(struct udphdr));

	if (!ip || (ip->frag_off & __builtin_bswap16(0x3fff)) ||
	    (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP))
		return 0;
	return ip;
}

// One's complement update of a checksum when the 16 bits `from` become `to` (RFC 1624, eqn. 3).
static __always_inline __u16 checksum_update(__u16 checksum, __u32 from, __u32 to)
{
	__u32 sum = (__u16)~checksum + (__u16)~from + (__u16)to;

	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

// `find` returns the entry of a packet or NULL; the packet is then left to the stack. `edit` rewrites the packet
// for its entry.
#define JOB_WITH(name, find, edit)                                                                    \
	SEC("xdp") int name##_xdp(struct xdp_md *ctx)                                                 \
	{                                                                                             \
		struct packet p = { (void *)(long)ctx->data, (void *)(long)ctx->data_end,             \
				    ctx->ingress_ifindex };                                           \
		p.size = p.end - p.data;                                                              \
		struct value *value = find(&p);                                                       \
		if (!value)                                                                           \
			return XDP_PASS;                                                              \
		count(value, p.size);                                                                 \
		if (!value->ifindex)                                                                  \
			return XDP_DROP;                                                              \
		edit(ctx, &p, value);                                                                 \
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
		if (!value->ifindex)                                                                  \
			return TC_ACT_SHOT;                                                           \
		edit(ctx, &p, value);                                                                 \
		return bpf_redirect(value->ifindex, 0);                                               \
	}

#define NO_EDIT(ctx, packet, value)
#define JOB(name, find) JOB_WITH(name, find, NO_EDIT)

char _license[] SEC("license") = "GPL";
