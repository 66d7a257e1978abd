// IPv4 routing: destination address to next hop; MAC addresses are rewritten, the TTL goes down by one. Three ways to
// find the route: a hash of host addresses, the kernel's LPM trie, and DIR-24-8 (one load for prefixes up to 24 bits,
// two for longer ones). Every route has its counters.
#include "job.h"

struct prefix {
	__u32 length;
	__be32 address;
};

TABLE(hosts, __be32);

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, struct value);
} trie SEC(".maps");

#define ARRAY(name, value_type)                    \
	struct {                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);  \
		__uint(max_entries, 1);            \
		__uint(map_flags, BPF_F_MMAPABLE); \
		__type(key, __u32);                \
		__type(value, value_type);         \
	} name SEC(".maps")

// An entry is a route number; with the highest bit set, the number of a group. Route 0 is none. Elements of an array
// map take 8 bytes at least: entries lie in lines, so that they take 4.
#define IS_GROUP 0x80000000u
#define LINE 16

struct line {
	__u32 entries[LINE];
};

struct group {
	__u32 entries[256];
};

ARRAY(top, struct line);
ARRAY(groups, struct group);
ARRAY(routes, struct value);

static __always_inline struct iphdr *routable(struct packet *p)
{
	struct iphdr *ip = ipv4(p, 0);

	return ip && ip->ttl > 1 ? ip : 0;
}

static __always_inline struct value *find_host(struct packet *p)
{
	struct iphdr *ip = routable(p);

	return ip ? bpf_map_lookup_elem(&hosts, &ip->daddr) : 0;
}

static __always_inline struct value *find_lpm(struct packet *p)
{
	struct iphdr *ip = routable(p);
	struct prefix key = { 32 };

	if (!ip)
		return 0;
	key.address = ip->daddr;
	return bpf_map_lookup_elem(&trie, &key);
}

static __always_inline struct value *find_dir(struct packet *p)
{
	struct iphdr *ip = routable(p);
	__u32 address, index, route;
	struct line *line;

	if (!ip)
		return 0;
	address = __builtin_bswap32(ip->daddr);
	index = address >> 8 >> 4;
	line = bpf_map_lookup_elem(&top, &index);
	if (!line)
		return 0;
	route = line->entries[(address >> 8) & (LINE - 1)];
	if (route & IS_GROUP) {
		struct group *group;

		index = route & ~IS_GROUP;
		group = bpf_map_lookup_elem(&groups, &index);
		if (!group)
			return 0;
		route = group->entries[address & 0xff];
	}
	return route ? bpf_map_lookup_elem(&routes, &route) : 0;
}

static __always_inline void forward(struct packet *p, struct value *value)
{
	struct ethhdr *eth = p->data;
	struct iphdr *ip = (void *)(eth + 1);
	__u32 sum;

	if ((void *)(ip + 1) > p->end)
		return;
	__builtin_memcpy(eth->h_dest, value->rewrite.hop.dst, 6);
	__builtin_memcpy(eth->h_source, value->rewrite.hop.src, 6);
	ip->ttl--;
	sum = ip->check + 1;
	ip->check = sum + (sum >> 16);
}

#define FORWARD(ctx, packet, value) forward(packet, value)

JOB_WITH(host, find_host, FORWARD)
JOB_WITH(lpm, find_lpm, FORWARD)
JOB_WITH(dir, find_dir, FORWARD)
