// The best C for one job, as a yardstick: forward by destination MAC and ingress interface from a kernel hash map, with
// statistics. What it looks at is what the megaflow of `dl_dst=X actions=output:N` looks at: port, type and destination.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

struct key {
	__u32 ifindex;
	__u16 type;
	__u8 dst[6];
	__u32 pad;
};

struct value {
	__u64 packets;
	__u64 bytes;
	__u32 ifindex;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct key);
	__type(value, struct value);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

SEC("xdp")
int c_l2(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct key key = {};
	struct value *value;

	if (data + sizeof(*eth) > end)
		return XDP_DROP;
	key.ifindex = ctx->ingress_ifindex;
	key.type = eth->h_proto;
	__builtin_memcpy(key.dst, eth->h_dest, 6);
	value = bpf_map_lookup_elem(&flows, &key);
	if (!value)
		return XDP_PASS;
	__sync_fetch_and_add(&value->packets, 1);
	__sync_fetch_and_add(&value->bytes, end - data);
	return bpf_redirect_map(&ports, value->ifindex, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
