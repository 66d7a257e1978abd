// Tuple space search as one writes it by hand: MASKS masks as constants, tried one after the other. Mask i has i bits of
// the source MAC besides the 5-tuple; masks of many bits come last, as in the flow table it stands against.
#include "job.h"

#ifndef MASKS
#define MASKS 8
#endif

struct key {
	__be32 src;
	__be32 dst;
	__be16 sport;
	__be16 dport;
	__u16 proto;
	__u16 mask;
	__u64 mac;
};

TABLE(tuples, struct key);

static __always_inline struct value *find_masked(struct packet *p)
{
	struct ethhdr *eth = p->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *l4 = (void *)(ip + 1);
	struct value *value = 0;
	struct key key;
	__u64 mac = 0;

	if ((void *)(l4 + 1) > p->end || eth->h_proto != __builtin_bswap16(ETH_P_IP) || ip->ihl != 5 ||
	    (ip->frag_off & __builtin_bswap16(0x3fff)))
		return 0;
	if (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP)
		return 0;
	__builtin_memcpy(&mac, eth->h_source, 6);
	mac = __builtin_bswap64(mac) >> 16;
	key.src = ip->saddr;
	key.dst = ip->daddr;
	key.sport = l4->source;
	key.dport = l4->dest;
	key.proto = ip->protocol;
#pragma unroll
	for (__u32 i = 0; i < MASKS; i++) {
		key.mask = i;
		key.mac = mac >> (47 - i);
		value = bpf_map_lookup_elem(&tuples, &key);
		if (value)
			break;
	}
	return value;
}

JOB(masked, find_masked)
