// The generic design of earlier OVS offloads: one program for every table. All headers go into one wide key; the masks
// are a list in a map, tried one after the other on the whole key; the actions of a flow are a list in its value, which
// is interpreted.
#include "job.h"

#define KEY_U64S 12
#define MAX_MASKS 64
#define MAX_ACTIONS 8

// 96 bytes, network byte order.
struct flow_key {
	__u32 in_port;
	__u8 eth_dst[6];
	__u8 eth_src[6];
	__be16 eth_type;
	__be16 vlan_tci;
	__be32 ipv6_label;
	__u8 nw_src[16]; // IPv4 in the first 4 bytes
	__u8 nw_dst[16];
	__u8 nw_proto;
	__u8 nw_tos;
	__u8 nw_ttl;
	__u8 nw_frag;
	__be16 tp_src;
	__be16 tp_dst;
	__be16 tcp_flags;
	__u8 arp_sha[6];
	__u8 arp_tha[6];
	__u8 zero[14];
};

union wide_key {
	struct flow_key flow;
	__u64 words[KEY_U64S];
};

_Static_assert(sizeof(union wide_key) == 8 * KEY_U64S, "a key is 96 bytes");

enum action_type { END, OUTPUT, SET_ETH_DST, SET_ETH_SRC, DEC_TTL };

struct action {
	__u32 type;
	__u32 port;
	__u8 mac[8];
};

struct flow {
	__u64 packets;
	__u64 bytes;
	struct action actions[MAX_ACTIONS];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, union wide_key);
	__type(value, struct flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_MASKS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, union wide_key);
} masks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u32);
} n_masks SEC(".maps");

static __always_inline int extract(struct packet *p, struct flow_key *key)
{
	struct ethhdr *eth = p->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *l4 = (void *)(ip + 1);

	if ((void *)ip > p->end)
		return 0;
	key->in_port = p->ifindex;
	__builtin_memcpy(key->eth_dst, eth->h_dest, 6);
	__builtin_memcpy(key->eth_src, eth->h_source, 6);
	key->eth_type = eth->h_proto;
	if (eth->h_proto != __builtin_bswap16(ETH_P_IP) || (void *)l4 > p->end || ip->ihl != 5)
		return 1;
	__builtin_memcpy(key->nw_src, &ip->saddr, 4);
	__builtin_memcpy(key->nw_dst, &ip->daddr, 4);
	key->nw_proto = ip->protocol;
	key->nw_tos = ip->tos;
	key->nw_ttl = ip->ttl;
	key->nw_frag = (ip->frag_off & __builtin_bswap16(0x3fff)) != 0;
	if (key->nw_frag || (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP) || (void *)(l4 + 1) > p->end)
		return 1;
	key->tp_src = l4->source;
	key->tp_dst = l4->dest;
	return 1;
}

static __always_inline struct flow *find_flow(struct packet *p)
{
	union wide_key key = {}, masked;
	struct flow *flow = 0;
	__u32 zero = 0, *n;

	if (!extract(p, &key.flow))
		return 0;
	n = bpf_map_lookup_elem(&n_masks, &zero);
	if (!n)
		return 0;
	for (__u32 i = 0; i < MAX_MASKS; i++) {
		__u32 index = i;
		union wide_key *mask;

		if (i >= *n)
			break;
		mask = bpf_map_lookup_elem(&masks, &index);
		if (!mask)
			break;
#pragma unroll
		for (__u32 w = 0; w < KEY_U64S; w++)
			masked.words[w] = key.words[w] & mask->words[w];
		flow = bpf_map_lookup_elem(&flows, &masked);
		if (flow)
			break;
	}
	return flow;
}

// Returns the port to send to, 0 for none.
static __always_inline __u32 execute(struct packet *p, struct flow *flow)
{
	__u32 port = 0;

	for (__u32 i = 0; i < MAX_ACTIONS; i++) {
		struct action *action = &flow->actions[i];
		struct ethhdr *eth = p->data;
		struct iphdr *ip = (void *)(eth + 1);
		__u32 sum;

		if ((void *)eth + sizeof(*eth) > p->end)
			return 0;
		switch (action->type) {
		case END:
			return port;
		case OUTPUT:
			port = action->port;
			break;
		case SET_ETH_DST:
			__builtin_memcpy(eth->h_dest, action->mac, 6);
			break;
		case SET_ETH_SRC:
			__builtin_memcpy(eth->h_source, action->mac, 6);
			break;
		case DEC_TTL:
			if ((void *)(ip + 1) > p->end || ip->ttl <= 1)
				return 0;
			ip->ttl--;
			sum = ip->check + 1;
			ip->check = sum + (sum >> 16);
			break;
		}
	}
	return port;
}

SEC("xdp") int generic_xdp(struct xdp_md *ctx)
{
	struct packet p = { (void *)(long)ctx->data, (void *)(long)ctx->data_end, ctx->ingress_ifindex };
	struct flow *flow = find_flow(&p);
	__u32 port;

	if (!flow)
		return XDP_PASS;
	__sync_fetch_and_add(&flow->packets, 1);
	__sync_fetch_and_add(&flow->bytes, p.end - p.data);
	port = execute(&p, flow);
	return port ? bpf_redirect_map(&ports, port, XDP_DROP) : XDP_DROP;
}

SEC("tc") int generic_tc(struct __sk_buff *ctx)
{
	struct packet p = { (void *)(long)ctx->data, (void *)(long)ctx->data_end, ctx->ifindex };
	struct flow *flow = find_flow(&p);
	__u32 port;

	if (!flow)
		return TC_ACT_OK;
	__sync_fetch_and_add(&flow->packets, 1);
	__sync_fetch_and_add(&flow->bytes, ctx->len);
	port = execute(&p, flow);
	return port ? bpf_redirect(port, 0) : TC_ACT_SHOT;
}
