// What was learnt from one match must not change what the next one means: matches that are read and written like others are
// those that they would be alone.

import assert from "node:assert/strict";
import { ByteWriter, decodeOxm, encodeOxm, OpenFlowError, parseFlows, putOxm, type Match } from "#compiler";

const hex = (n: number): string => n.toString(16).padStart(2, "0");

/** Matches in which `n` varies what may vary, and what may not. */
const MATCHES: readonly ((n: number) => string)[] = [
  (n) => `tcp,nw_dst=10.0.${n}.7,tp_dst=${80 + n}`,
  (n) => `tcp,nw_src=10.${n}.0.0/16,tp_src=0x${hex(n)}00/0xff00`,
  (n) => `dl_src=02:00:00:00:${hex(n)}:01,dl_dst=02:${hex(n)}:00:00:00:02`,
  (n) => `in_port=${1 + n},metadata=0x${hex(n)}01,reg3=${n},udp6,ipv6_dst=fd00::${hex(n)}`,
  (n) => `ip,nw_proto=${n},nw_dst=10.0.0.${n}`,
  (n) => `dl_type=0x88${hex(n)},dl_src=02:00:00:00:00:${hex(n)}`,
  (n) => `icmp6,icmp_type=${133 + (n % 6)},icmp_code=0`,
  (n) => `dl_vlan=${n},arp,arp_tpa=10.0.0.${n},arp_op=${1 + (n % 2)}`,
  (n) => `tun_id=${n},xreg2=0x${hex(n)}0000000001`,
];

const matchOf = (text: string): Match => parseFlows(`${text},actions=drop`, { file: "test" })[0]!.match;

describe("MatchTemplates, WrittenMatches", () => {
  for (const [i, text] of MATCHES.entries())
    it(`read and write like the first of its kind: ${text(9)}, row ${i}`, () => {
      for (let n = 0; n < 64; n++) {
        const match = matchOf(text(n));
        const bytes = encodeOxm(match, 3);
        const read = decodeOxm(bytes).match;
        assert.deepEqual([read.value, read.mask], [match.value, match.mask], text(n));
        for (const each of [match, read]) {
          const writer = new ByteWriter();
          putOxm(writer, each, 3);
          assert.deepEqual(writer.finish(), bytes, text(n));
        }
      }
    });

  it("refuse what does not fit, however much of it is known", () => {
    const good = encodeOxm(matchOf("tcp,nw_src=10.1.0.0/16,tp_dst=80"), 3);
    const refused = (change: (bytes: Uint8Array) => void, error: string): void => {
      decodeOxm(good);
      const bytes = good.slice();
      change(bytes);
      assert.throws(
        () => decodeOxm(bytes),
        (thrown) => thrown instanceof OpenFlowError && thrown.error === error,
      );
    };
    const at = (...header: number[]): number =>
      good.findIndex((_, i) => header.every((byte, j) => good[i + j] === byte));
    const source = at(0x80, 0, 0x17, 8) + 4;
    refused((bytes) => (bytes[source + 3] = 1), "OFPBMC_BAD_WILDCARDS");
    refused((bytes) => (bytes[at(0x80, 0, 0x0a, 2) + 4] = 0x86), "OFPBMC_BAD_PREREQ");
    refused((bytes) => (bytes[at(0x80, 0, 0x14, 1) + 4] = 17), "OFPBMC_BAD_PREREQ");
  });
});
