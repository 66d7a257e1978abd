// Forward UDP and TCP over IPv4 by addresses, ports and protocol, from a kernel hash map.
#include "job.h"

struct key {
	__be32 src;
	__be32 dst;
	__be16 sport;
	__be16 dport;
	__u32 proto;
};

TABLE(tuples, struct key);

static __always_inline struct value *find_tuple(struct packet *p)
{
	struct ethhdr *eth = p->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *l4 = (void *)(ip + 1);
	struct key key;

	if ((void *)(l4 + 1) > p->end || eth->h_proto != __builtin_bswap16(ETH_P_IP) || ip->ihl != 5 ||
	    (ip->frag_off & __builtin_bswap16(0x3fff)))
		return 0;
	if (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP)
		return 0;
	key.src = ip->saddr;
	key.dst = ip->daddr;
	key.sport = l4->source;
	key.dport = l4->dest;
	key.proto = ip->protocol;
	return bpf_map_lookup_elem(&tuples, &key);
}

JOB(tuple, find_tuple)
