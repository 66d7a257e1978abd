// Forward by destination MAC; `known` besides wants the source where it was learned: a learning switch once all
// stations are known. From a kernel hash map and from an open-addressed table.
#define KEY_WORDS 2
#include "slots.h"

TABLE(by_mac, __u64);

static __always_inline __u64 mac_key(const __u8 *mac)
{
	__u64 key = 0;

	__builtin_memcpy(&key, mac, 6);
	return key;
}

static __always_inline struct value *hash_mac(const __u8 *mac)
{
	__u64 key = mac_key(mac);

	return bpf_map_lookup_elem(&by_mac, &key);
}

// The key of an open-addressed table is never zero: bit 16 of the second word is always set.
static __always_inline struct value *slot_mac(const __u8 *mac)
{
	__u64 mac48 = mac_key(mac);
	__u32 key[KEY_WORDS] = { mac48, (mac48 >> 32) | 0x10000 };

	return find_slot(key);
}

#define L2_JOBS(kind)                                                           \
	static __always_inline struct value *kind##_find(struct packet *p)      \
	{                                                                       \
		struct ethhdr *eth = p->data;                                   \
                                                                                \
		if ((void *)(eth + 1) > p->end)                                 \
			return 0;                                               \
		return kind##_mac(eth->h_dest);                                 \
	}                                                                       \
	static __always_inline struct value *kind##_known(struct packet *p)   \
	{                                                                       \
		struct ethhdr *eth = p->data;                                   \
		struct value *from;                                             \
                                                                                \
		if ((void *)(eth + 1) > p->end)                                 \
			return 0;                                               \
		from = kind##_mac(eth->h_source);                               \
		if (!from || from->rewrite.nat.addr != p->ifindex)              \
			return 0;                                               \
		return kind##_mac(eth->h_dest);                                 \
	}                                                                       \
	JOB(mac_##kind, kind##_find)                                            \
	JOB(known_##kind, kind##_known)

L2_JOBS(hash)
L2_JOBS(slot)
