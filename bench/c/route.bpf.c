// Host routes: destination address to next hop; MAC addresses are rewritten, the TTL goes down by one.
#include "job.h"

TABLE(routes, __be32);

static __always_inline struct value *find_route(struct packet *p)
{
	struct ethhdr *eth = p->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct value *value;
	__u32 sum;

	if ((void *)(ip + 1) > p->end || eth->h_proto != __builtin_bswap16(ETH_P_IP) || ip->ihl != 5 || ip->ttl <= 1)
		return 0;
	value = bpf_map_lookup_elem(&routes, &ip->daddr);
	if (!value)
		return 0;
	__builtin_memcpy(eth->h_dest, value->dst, 6);
	__builtin_memcpy(eth->h_source, value->src, 6);
	ip->ttl--;
	sum = ip->check + 1;
	ip->check = sum + (sum >> 16);
	return value;
}

JOB(route, find_route)
