// Tuple space search as one writes it by hand: MASKS masks as constants, tried one after the other, in a kernel hash map
// or in an open-addressed table. Mask i has i + 1 bits of the source MAC besides the 5-tuple; masks of many bits come
// last, as in the flow table it stands against.
#ifndef MASKS
#define MASKS 8
#endif
#define KEY_WORDS 6
#include "slots.h"

struct key {
	__be32 src;
	__be32 dst;
	__u32 ports;
	__u16 proto;
	__u16 mask;
	__u32 mac[2]; // low word first: its leading bits, shifted down
};

TABLE(tuples, struct key);

#define MASK_JOB(kind, look_up)                                                                  \
	static __always_inline struct value *kind##_find(struct packet *p)                       \
	{                                                                                        \
		struct iphdr *ip = ipv4_with_ports(p);                                           \
		struct value *value = 0;                                                         \
		struct key key;                                                                  \
		__u64 mac = 0;                                                                   \
                                                                                                 \
		if (!ip)                                                                         \
			return 0;                                                                \
		__builtin_memcpy(&mac, ((struct ethhdr *)p->data)->h_source, 6);                 \
		mac = __builtin_bswap64(mac) >> 16;                                              \
		key.src = ip->saddr;                                                             \
		key.dst = ip->daddr;                                                             \
		key.ports = *(__u32 *)(ip + 1);                                                  \
		key.proto = ip->protocol;                                                        \
		for (__u32 i = 0; i < MASKS && !value; i++) {                                    \
			key.mask = i;                                                            \
			key.mac[0] = mac >> (47 - i);                                            \
			key.mac[1] = mac >> (47 - i) >> 32;                                      \
			value = look_up;                                                         \
		}                                                                                \
		return value;                                                                    \
	}                                                                                        \
	JOB(masked_##kind, kind##_find)

MASK_JOB(hash, bpf_map_lookup_elem(&tuples, &key))
MASK_JOB(slot, find_slot((__u32 *)&key))
