// A VLAN tag on or off, output by destination MAC, from an open-addressed table. XDP only: at TC the tag is metadata.
#define KEY_WORDS 2
#include "slots.h"

#ifndef VID
#define VID 100
#endif

struct tag {
	__be16 tpid;
	__be16 tci;
};

static __always_inline struct value *find_mac(struct packet *p)
{
	struct ethhdr *eth = p->data;
	__u64 mac = 0;

	if ((void *)(eth + 1) > p->end)
		return 0;
	__builtin_memcpy(&mac, eth->h_dest, 6);
	__u32 key[KEY_WORDS] = { mac, (mac >> 32) | 0x10000 };
	return find_slot(key);
}

SEC("xdp") int push_xdp(struct xdp_md *ctx)
{
	struct packet p = { (void *)(long)ctx->data, (void *)(long)ctx->data_end };
	struct value *value = find_mac(&p);
	__u32 *to;

	if (!value)
		return XDP_PASS;
	count(value, p.end - p.data);
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct tag)))
		return XDP_DROP;
	to = (void *)(long)ctx->data;
	if ((void *)(to + 4) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	to[0] = to[1];
	to[1] = to[2];
	to[2] = to[3];
	to[3] = __builtin_bswap32(ETH_P_8021Q << 16 | VID);
	return bpf_redirect_map(&ports, value->ifindex, XDP_DROP);
}

SEC("xdp") int pop_xdp(struct xdp_md *ctx)
{
	struct packet p = { (void *)(long)ctx->data, (void *)(long)ctx->data_end };
	struct value *value = find_mac(&p);
	__u32 *at = p.data;

	if (!value || (void *)(at + 4) > p.end || at[3] != __builtin_bswap32(ETH_P_8021Q << 16 | VID))
		return XDP_PASS;
	count(value, p.end - p.data);
	at[3] = at[2];
	at[2] = at[1];
	at[1] = at[0];
	if (bpf_xdp_adjust_head(ctx, sizeof(struct tag)))
		return XDP_DROP;
	return bpf_redirect_map(&ports, value->ifindex, XDP_DROP);
}
