// Forward by destination MAC, two ways: with the key that the flow text asks for and nothing else, and with what a
// megaflow of OVS always matches besides (input port, Ethernet type).
#include "job.h"

struct full_key {
	__u32 ifindex;
	__u16 type;
	__u8 dst[6];
	__u32 zero;
};

TABLE(by_mac, __u64);
TABLE(by_key, struct full_key);

static __always_inline struct value *find_mac(struct packet *p)
{
	struct ethhdr *eth = p->data;
	__u64 key = 0;

	if ((void *)(eth + 1) > p->end)
		return 0;
	__builtin_memcpy(&key, eth->h_dest, 6);
	return bpf_map_lookup_elem(&by_mac, &key);
}

static __always_inline struct value *find_key(struct packet *p)
{
	struct ethhdr *eth = p->data;
	struct full_key key = { .ifindex = p->ifindex };

	if ((void *)(eth + 1) > p->end)
		return 0;
	key.type = eth->h_proto;
	__builtin_memcpy(key.dst, eth->h_dest, 6);
	return bpf_map_lookup_elem(&by_key, &key);
}

JOB(mac, find_mac)
JOB(key, find_key)
