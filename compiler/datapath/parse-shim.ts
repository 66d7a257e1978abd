// The parts of the packet parser for what lies between Ethernet and IP: MPLS and NSH.

import type { BlockId } from "../ir/types.js";
import type { Member } from "../openflow/flow.js";
import { mpls, nsh, NSH_TYPE_1 } from "../packet/headers.js";
import { copyMembers, leftFrom, need, putRegister, wants, type Emit } from "./emit.js";
import type { L3 } from "./parse-l3.js";

/** Members that MPLS packets can have beyond L2. */
export const MPLS_MEMBERS: readonly Member[] = ["mpls_lse0", "mpls_lse1", "mpls_lse2"];

const NSH_CONTEXT: readonly Member[] = ["nsh_c1", "nsh_c2", "nsh_c3", "nsh_c4"];

/** Members that NSH packets can have beyond L2. */
export const NSH_MEMBERS: readonly Member[] = [
  "nsh_flags",
  "nsh_ttl",
  "nsh_mdtype",
  "nsh_np",
  "nsh_path",
  ...NSH_CONTEXT,
];

/** Label stack entries, as far as any later member is wanted; ends at `done`. */
export const parseMpls = (e: Emit, { l3, l3Off }: L3, done: BlockId): void => {
  const { b } = e;
  const left = leftFrom(e, l3Off);
  for (const [i, member] of MPLS_MEMBERS.entries()) {
    if (!wants(e, ...MPLS_MEMBERS.slice(i))) break;
    const at = i * mpls.minBytes;
    b.unless("lt", left, at + mpls.minBytes, done);
    need(e, l3, at + mpls.minBytes, e.miss);
    putRegister(e, member, b.load("u32", l3, at, member));
    b.unless("set", b.load("u8", l3, at + mpls.fields.bos.byteOffset, "bos"), 1, done);
  }
  b.jump(done);
};

/** Network service header; ends at `done`. */
export const parseNsh = (e: Emit, { l3, l3Off }: L3, done: BlockId): void => {
  const { b } = e;
  const f = nsh.fields;
  const left = leftFrom(e, l3Off);
  b.unless("lt", left, nsh.minBytes, done);
  need(e, l3, nsh.minBytes, e.miss);
  const first = b.swap(16, b.load("u16", l3, 0, "nsh_first"), "nsh_first");
  b.unless("set", first, 0xc000, done);
  const size = b.alu("lsh", b.alu("and", first, 0x3f), 2, "nsh_size");
  b.unless("gt", size, left, done);
  const mdtype = b.load("u8", l3, f.mdtype.byteOffset, "mdtype");
  const base = b.block("nsh_base");
  const type1 = b.block("nsh_type1");
  const type2 = b.block("nsh_type2");
  b.unless("eq", mdtype, NSH_TYPE_1.MDTYPE, type1);
  b.branch("eq", mdtype, 2, type2, base);
  b.place(type1);
  b.unless("ne", size, NSH_TYPE_1.BYTES, done);
  if (wants(e, ...NSH_CONTEXT)) {
    need(e, l3, NSH_TYPE_1.BYTES, e.miss);
    copyMembers(
      e,
      l3,
      NSH_CONTEXT.map((member, i) => [member, nsh.minBytes + 4 * i] as const),
    );
  }
  b.jump(base);
  b.place(type2);
  b.unless("lt", size, nsh.minBytes, done);
  b.jump(base);
  b.place(base);
  putRegister(e, "nsh_flags", b.alu("and", b.alu("rsh", first, 12), 3, "flags"));
  putRegister(e, "nsh_ttl", b.alu("and", b.alu("rsh", first, 6), 0x3f, "ttl"));
  copyMembers(e, l3, [
    ["nsh_mdtype", f.mdtype.byteOffset],
    ["nsh_np", f.np.byteOffset],
    ["nsh_path", f.path.byteOffset],
  ]);
  b.jump(done);
};
