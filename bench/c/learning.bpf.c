// A learning switch once all stations are known: the source must be where it was learned, the destination says where to.
#include "job.h"

TABLE(stations, __u64);

static __always_inline struct value *find_station(struct packet *p)
{
	struct ethhdr *eth = p->data;
	__u64 src = 0, dst = 0;
	struct value *from, *to;

	if ((void *)(eth + 1) > p->end)
		return 0;
	__builtin_memcpy(&src, eth->h_source, 6);
	__builtin_memcpy(&dst, eth->h_dest, 6);
	from = bpf_map_lookup_elem(&stations, &src);
	if (!from || from->ifindex != p->ifindex)
		return 0;
	to = bpf_map_lookup_elem(&stations, &dst);
	return to;
}

JOB(station, find_station)
