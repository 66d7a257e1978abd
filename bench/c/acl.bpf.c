// An access list over IPv4 with ports, two ways: as code, rule after rule; and as a tuple space search with priorities,
// one hash per shape of rule. Rules come from a generated header: RULE(number, source, its mask, destination, its mask,
// destination port and its mask, port to send to), all in network byte order, highest priority first.
#define KEY_WORDS 4
#include "slots.h"

#ifndef RULES
#define RULES 1
#endif

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct value);
} rules SEC(".maps");

struct fields {
	__be32 src;
	__be32 dst;
	__be16 port;
};

static __always_inline int acl_fields(struct packet *p, struct fields *f)
{
	struct iphdr *ip = ipv4_with_ports(p);

	if (!ip)
		return 0;
	f->src = ip->saddr;
	f->dst = ip->daddr;
	f->port = ((struct udphdr *)(ip + 1))->dest;
	return 1;
}

// Rule RULES is the one that takes all that no other took.
static __always_inline __u32 match_code(const struct fields *f)
{
#ifdef WITH_CODE
#define RULE(number, src_v, src_m, dst_v, dst_m, port_v, port_m) \
	if ((f->src & src_m) == src_v && (f->dst & dst_m) == dst_v && (f->port & port_m) == port_v) \
		return number;
#include "rules.h"
#undef RULE
#endif
	return RULES;
}

static __always_inline struct value *code_find(struct packet *p)
{
	struct fields f;
	__u32 rule;

	if (!acl_fields(p, &f))
		return 0;
	rule = match_code(&f);
	return bpf_map_lookup_elem(&rules, &rule);
}

// The masks of the shapes, as of bench/tables/acl.ts. The entry of a rule says its number in rewrite.nat.addr.
static __always_inline struct value *space_find(struct packet *p)
{
	struct fields f;
	__u32 best = RULES;
	struct value *found = 0;

	if (!acl_fields(p, &f))
		return 0;
#define SHAPE(shape, src_m, dst_m, port_m)                                                             \
	{                                                                                              \
		__u32 key[KEY_WORDS] = { f.src & src_m, f.dst & dst_m, f.port & port_m, 1 + shape };   \
		struct value *value = find_slot(key);                                                  \
		if (value && value->rewrite.nat.addr < best) {                                         \
			best = value->rewrite.nat.addr;                                                \
			found = value;                                                                 \
		}                                                                                      \
	}
#include "shapes.h"
#undef SHAPE
	return found ? found : bpf_map_lookup_elem(&rules, &best);
}

JOB(code, code_find)
JOB(space, space_find)
