// A switch of two ports as one writes it by hand: the 5-tuple of a packet is looked up in a kernel hash map, packets and
// bytes are counted, the packet is redirected. A flow that is not there yet is put in, to go where its port leads to; what
// is no UDP or TCP over IPv4 goes there without a flow. `drop` takes packets in at a host.
#include "job.h"

struct key {
	__be32 src;
	__be32 dst;
	__u32 ports;
	__u16 proto;
	__u16 in_port;
};

TABLE(tuples, struct key);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u32);
} other_port SEC(".maps");

static __always_inline struct value *new_flow(const struct key *key, __u32 to)
{
	struct value value = { .ifindex = to };

	bpf_map_update_elem(&tuples, key, &value, BPF_NOEXIST);
	return bpf_map_lookup_elem(&tuples, key);
}

// Returns the interface to send to, 0 for none.
static __always_inline __u32 out_port(struct packet *p)
{
	struct iphdr *ip = ipv4_with_ports(p);
	struct value *value;
	struct key key;
	__u32 *to;

	if (!ip) {
		to = bpf_map_lookup_elem(&other_port, &p->ifindex);
		return to ? *to : 0;
	}
	key.src = ip->saddr;
	key.dst = ip->daddr;
	key.ports = *(__u32 *)(ip + 1);
	key.proto = ip->protocol;
	key.in_port = p->ifindex;
	value = bpf_map_lookup_elem(&tuples, &key);
	if (!value) {
		to = bpf_map_lookup_elem(&other_port, &p->ifindex);
		value = to ? new_flow(&key, *to) : 0;
		if (!value)
			return 0;
	}
	count(value, p->size);
	return value->ifindex;
}

SEC("xdp") int wire_xdp(struct xdp_md *ctx)
{
	struct packet p = { (void *)(long)ctx->data, (void *)(long)ctx->data_end, ctx->ingress_ifindex };

	p.size = p.end - p.data;
	return bpf_redirect_map(&ports, out_port(&p), XDP_DROP);
}

SEC("tc") int wire_tc(struct __sk_buff *ctx)
{
	struct packet p = { (void *)(long)ctx->data, (void *)(long)ctx->data_end, ctx->ifindex, ctx->len };
	__u32 to = out_port(&p);

	return to ? bpf_redirect(to, 0) : TC_ACT_SHOT;
}

SEC("tc") int peer_tc(struct __sk_buff *ctx)
{
	struct packet p = { (void *)(long)ctx->data, (void *)(long)ctx->data_end, ctx->ifindex, ctx->len };
	__u32 to = out_port(&p);

	return to ? bpf_redirect_peer(to, 0) : TC_ACT_SHOT;
}

SEC("tc") int drop_tc(struct __sk_buff *ctx)
{
	return TC_ACT_SHOT;
}
