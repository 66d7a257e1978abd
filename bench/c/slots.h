// An open-addressed table inside an array map: no helper is called, since the kernel inlines the array's look-up. Keys
// are KEY_WORDS words of 32 bits, not all of them zero; an empty slot has a zero key. At most half of the slots are
// taken, and none lies more than MAX_PROBES behind its place. bench/datapath/slots.ts fills it by the same hash.
#pragma once
#include "job.h"

#ifndef SLOTS
#define SLOTS 2048
#endif
#ifndef KEY_WORDS
#define KEY_WORDS 4
#endif
#define MAX_PROBES 64

// A cache line, when the key has up to 6 words.
struct slot {
	struct value value;
	__u32 key[KEY_WORDS];
} __attribute__((aligned(64)));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

static __always_inline __u32 hash_words(const __u32 *key)
{
	__u32 h = 0;

#pragma unroll
	for (__u32 i = 0; i < KEY_WORDS; i++)
		h = (h ^ key[i]) * 0x9e3779b1u;
	h ^= h >> 15;
	h *= 0x85ebca77u;
	return h ^ (h >> 13);
}

static __always_inline struct value *find_slot(const __u32 *key)
{
	__u32 at = hash_words(key);

	for (__u32 i = 0; i < MAX_PROBES; i++, at++) {
		__u32 index = at & (SLOTS - 1);
		struct slot *slot = bpf_map_lookup_elem(&slots, &index);
		__u32 differ = 0, any = 0;

		if (!slot)
			return 0;
#pragma unroll
		for (__u32 k = 0; k < KEY_WORDS; k++) {
			differ |= slot->key[k] ^ key[k];
			any |= slot->key[k];
		}
		if (!differ)
			return &slot->value;
		if (!any)
			return 0;
	}
	return 0;
}
