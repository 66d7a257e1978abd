// The codec of matches against ovs-ofctl, which reads the same lists of fields and writes them again, and does likewise
// with the fixed matches of OpenFlow 1.0 and 1.1.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fc from "fast-check";
import {
  codedField,
  decodeEntry,
  decodeFields,
  decodeHeader,
  decodeMatch10,
  decodeMatch11,
  decodeNxm,
  decodeOxm,
  encodeFieldHeader,
  encodeFields,
  encodeMatch10,
  encodeMatch11,
  encodeNxm,
  encodeOxm,
  errorCode,
  errorName,
  FIELD_LIMIT,
  FIELD_NAMES,
  fieldSpec,
  formatFields,
  formatMatch,
  isTunMetadata,
  MATCH_10_BYTES,
  MATCH_11_BYTES,
  normalizeMatch,
  OPENFLOW_ERRORS,
  OpenFlowError,
  parseFields,
  parseFlowLines,
  valueBytesOf,
  type Match,
  type MinorVersion,
  type OpenFlowErrorName,
} from "#compiler";
import { concatBytes, toHex } from "ebpf-assembler";
import { MATCHABLE, randomFieldMatch, randomMatch } from "../../../support/random-matches.js";
import { Random } from "../../../support/random.js";

const MINORS = [0, 2, 3, 4, 5] as const;

const ofctl = (args: readonly string[], lines: readonly string[]): string => {
  const input = `${lines.join("\n")}\n`;
  const { stdout, stderr, status } = spawnSync("ovs-ofctl", args, { input, encoding: "utf8", maxBuffer: 1 << 28 });
  assert.equal(status, 0, stderr);
  return stdout;
};

/** A match as ovs-ofctl takes and gives it: names and bytes in text, and the bytes of the whole. */
interface Dumped {
  readonly text: string;
  hex: string;
}

/** What OVS makes of lists of fields: the list of the match that it has read, or its error. */
const ovsRecodes = (minor: MinorVersion, loose: boolean, lists: readonly string[]): Dumped[] => {
  const how = loose ? ["-m"] : ["-m", "--strict"];
  const command = minor === 0 ? ["parse-nx-match"] : ["parse-oxm", `OpenFlow1${minor}`];
  const dumped: Dumped[] = [];
  for (const line of ofctl([...how, ...command], lists).split("\n")) {
    // Offset, sixteen bytes, their characters.
    if (/^[0-9a-f]{8} {2}/.test(line)) dumped.at(-1)!.hex += line.slice(10, 59).replaceAll(/[^0-9a-f]/g, "");
    else if (line !== "") dumped.push({ text: line, hex: "" });
  }
  assert.equal(dumped.length, lists.length);
  return dumped;
};

/** The same by our codec. */
const recode = (minor: MinorVersion, loose: boolean, bytes: Uint8Array): Dumped => {
  try {
    const { match, cookie } = decodeFields(bytes, { loose, cookies: minor === 0 });
    const whole = minor === 0 ? encodeNxm(match, cookie).bytes : encodeOxm(match, minor);
    return { text: formatFields(encodeFields(match, minor, cookie)), hex: toHex(whole) };
  } catch (error) {
    if (!(error instanceof OpenFlowError)) throw error;
    return { text: `nx_pull_match() returned error ${error.error}`, hex: "" };
  }
};

const matchOf = (text: string): Match | undefined => parseFlowLines(`${text},actions=drop`)[0]!.value?.flow.match;

const randomMatches = (r: Random, n: number): Match[] =>
  [
    ...MATCHABLE.flatMap((field) => [randomFieldMatch(r, field), randomFieldMatch(r, field)]),
    ...Array.from({ length: n }, () => randomMatch(r)),
  ].flatMap((text) => matchOf(text) ?? []);

const entriesOf = (bytes: Uint8Array): Uint8Array[] => {
  const entries: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const { size } = decodeEntry(bytes, at);
    entries.push(bytes.slice(at, at + size));
    at += size;
  }
  return entries;
};

/** An entry with its header in digits: what it stands for, ovs-ofctl need not know. */
const rawText = (entry: Uint8Array): string => {
  const header = decodeHeader(entry);
  const n = valueBytesOf(header);
  const mask = header.masked ? `/${toHex(entry.slice(header.size + n))}` : "";
  return `${toHex(entry.slice(0, header.size))}(${toHex(entry.slice(header.size, header.size + n))}${mask})`;
};

/** Leaves out, doubles, exchanges and bends entries; each stays as long as its header says. */
const damage = (r: Random, entries: readonly Uint8Array[]): Uint8Array[] => {
  const out = entries.map((entry) => entry.slice());
  for (let n = r.between(1, 3); n > 0 && out.length > 0; n--) {
    const i = r.below(out.length);
    const entry = out[i]!;
    const header = decodeHeader(entry);
    switch (r.below(6)) {
      case 0:
        out.splice(i, 1);
        break;
      case 1:
        out.splice(r.below(out.length + 1), 0, entry.slice());
        break;
      case 2:
        out.unshift(...out.splice(i, 1));
        break;
      case 3:
        if (header.payloadBytes > 0) entry[header.size + r.below(header.payloadBytes)]! ^= 1 << r.below(8);
        break;
      case 4:
        entry[2]! ^= 2 << r.below(7);
        break;
      default:
        if (header.payloadBytes % 2 === 0) entry[2]! |= 1;
    }
  }
  // ovs-ofctl takes a header of zeros for none, and counts a value of odd length as half of it.
  return out.filter((entry) => {
    const { masked, payloadBytes } = decodeHeader(entry);
    return payloadBytes > 0 && !(masked && payloadBytes % 2 !== 0) && entry.slice(0, 4).some((byte) => byte !== 0);
  });
};

/** Masks with bits that the field does not have: OVS keeps them, though they never matter. */
const hasStrayMask = (entry: Uint8Array): boolean => {
  const header = decodeHeader(entry);
  const field = codedField(header)?.field;
  if (field === undefined || !header.masked || isTunMetadata(field)) return false;
  const mask = entry.slice(header.size + valueBytesOf(header));
  return mask.some((byte) => byte !== 0xff) && (BigInt(`0x${toHex(mask)}`) & ~FIELD_LIMIT[field]) !== 0n;
};

/** OVS prints the first bytes of the longest value that an option could have: zeros. */
const showsOptions = (text: string): boolean => text.includes("TUN_METADATA");

describe("matches as lists of fields", function () {
  this.timeout(120_000);
  const seed = Number(process.env["SEED"] ?? 1);

  const compare = (
    minor: MinorVersion,
    loose: boolean,
    lists: readonly { bytes: Uint8Array; text: string }[],
  ): void => {
    const theirs = ovsRecodes(
      minor,
      loose,
      lists.map(({ text }) => text),
    );
    for (const [i, { bytes, text }] of lists.entries()) {
      const ours = recode(minor, loose, bytes);
      assert.equal(ours.hex, theirs[i]!.hex, `${text}\n${theirs[i]!.text}`);
      if (!showsOptions(ours.text)) assert.equal(ours.text, theirs[i]!.text, text);
      assert.equal(toHex(parseFields(text)), toHex(bytes), text);
    }
  };

  for (const minor of MINORS) {
    const name = minor === 0 ? "NXM" : `OpenFlow 1.${minor}`;

    it(`decodeFields() and encodeFields() give the bytes of OVS for every field and random matches, ${name}`, () => {
      const lists = randomMatches(new Random(seed), 400).map((match) => {
        const bytes = encodeFields(match, minor);
        return { bytes, text: formatFields(bytes) };
      });
      compare(minor, false, lists);
      compare(minor, true, lists);
    });

    it(`decodeFields() gives the errors of OVS for damaged lists, ${name}`, () => {
      const r = new Random(seed + 1);
      const damaged = randomMatches(r, 400).map((match) => {
        const entries = damage(r, entriesOf(encodeFields(match, minor)));
        return { entries, bytes: concatBytes(...entries), text: entries.map(rawText).join(", ") || "<any>" };
      });
      const lists = damaged.filter(({ entries }) => !entries.some(hasStrayMask));
      const refused = lists.filter(({ bytes }) => recode(minor, false, bytes).hex === "");
      assert.ok(refused.length > 100);
      compare(minor, false, lists);
    });
  }

  it("encodeFields() writes every code of every field, decodeFields() reads it", () => {
    for (const field of FIELD_NAMES) {
      for (const { since, name } of fieldSpec(field).codes) {
        if (isTunMetadata(field)) continue;
        const bytes = concatBytes(encodeFieldHeader(field, since, false), new Uint8Array(64));
        assert.equal(codedField(decodeHeader(bytes))?.field, field, name);
      }
    }
    const text = "ONFOXM_ET_ACTSET_OUTPUT(00000005), NXOXM_ET_DP_HASH(00000007), NXM_NX_COOKIE_W(01/03)";
    assert.throws(() => parseFields(text), /want 8 bytes of value and of mask for NXM_NX_COOKIE_W/);
    const known = parseFields("ONFOXM_ET_ACTSET_OUTPUT(00000005), NXOXM_ET_DP_HASH(00000007)");
    assert.equal(formatMatch(decodeFields(known).match), "dp_hash=0x7,actset_output=5");
  });

  it("decodeFields(), decodeNxm() and decodeOxm() take or refuse any bytes, and what they take is stable", () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.integer({ min: 1, max: 1e6 }).map((n) => {
        const r = new Random(n);
        const whole = encodeOxm(matchOf(randomMatch(r)) ?? decodeMatch10(r.bytes(MATCH_10_BYTES)), 3);
        const copy = whole.slice(0, whole.length - (r.oneIn(3) ? r.below(12) : 0));
        for (let k = r.below(4); k > 0; k--) copy[r.below(copy.length)] = r.below(256);
        return copy;
      }),
    );
    const attempt = (decode: () => Match): void => {
      let match: Match;
      try {
        match = decode();
      } catch (error) {
        assert.ok(error instanceof OpenFlowError, String(error));
        return;
      }
      const again = decodeFields(encodeFields(match, 5), { loose: true }).match;
      assert.equal(toHex(encodeFields(again, 5)), toHex(encodeFields(match, 5)));
    };
    fc.assert(
      fc.property(bytes, fc.boolean(), (input, loose) => {
        attempt(() => decodeFields(input, { loose }).match);
        attempt(() => decodeOxm(input, 0, { loose }).match);
        attempt(() => decodeNxm(input, 0, input.length, { loose, cookies: true }).match);
        assert.equal(typeof formatFields(input), "string");
      }),
      { numRuns: 3000 },
    );
  });
});

/** What ovs-ofctl says of bytes that come back otherwise. */
const differences = (prefix: string, a: Uint8Array, b: Uint8Array): string[] =>
  Array.from(a).flatMap((byte, i) =>
    byte === b[i]
      ? []
      : [
          `${prefix}${String(i).padStart(2)}: ${byte.toString(16).padStart(2, "0")} -> ${b[i]!.toString(16).padStart(2, "0")}`,
        ],
  );

describe("fixed matches", function () {
  this.timeout(60_000);
  const seed = Number(process.env["SEED"] ?? 1);

  /** Random bytes in the places of such a match, often those of a valid one. */
  const randomFixed = (encode: (match: Match) => Uint8Array): Uint8Array[] => {
    const r = new Random(seed);
    return randomMatches(r, 600).map((match) => {
      const bytes = encode(match);
      for (let n = r.below(4); n > 0; n--) bytes[r.below(bytes.length)] = r.oneIn(2) ? r.below(256) : r.below(9);
      return bytes;
    });
  };

  it("decodeMatch10() and encodeMatch10() treat the match of OpenFlow 1.0 as OVS does", () => {
    const inputs = randomFixed(encodeMatch10);
    const want = ofctl(
      ["parse-ofp10-match"],
      inputs.map((bytes) => toHex(bytes)),
    ).replaceAll(/^\d{4}-.*normalization.*\n|^.*(pre|post): .*\n/gm, "");
    const have = inputs.flatMap((bytes) => {
      assert.equal(bytes.length, MATCH_10_BYTES);
      const match = decodeMatch10(bytes);
      const text = formatMatch(match);
      const out = encodeMatch10(match);
      normalizeMatch(match);
      return [text, ...differences("", bytes, out), ...differences("normal: ", out, encodeMatch10(match)), ""];
    });
    assert.deepEqual(have, want.split("\n").slice(0, -1));
  });

  it("decodeMatch11() and encodeMatch11() treat the match of OpenFlow 1.1 as OVS does", () => {
    const inputs = randomFixed(encodeMatch11);
    const want = ofctl(
      ["parse-ofp11-match"],
      inputs.map((bytes) => toHex(bytes)),
    );
    const have = inputs.flatMap((bytes) => {
      assert.equal(bytes.length, MATCH_11_BYTES);
      try {
        const match = decodeMatch11(bytes);
        return [formatMatch(match), ...differences("", bytes, encodeMatch11(match)), ""];
      } catch (error) {
        assert.ok(error instanceof OpenFlowError);
        return [`bad ofp11_match: ${error.error}`, ""];
      }
    });
    assert.deepEqual(have, want.split("\n").slice(0, -1));
  });
});

describe("errors of OpenFlow", () => {
  it("errorCode() and errorName() go both ways where a code is unique", () => {
    assert.deepEqual(errorCode("OFPBMC_BAD_PREREQ", 3), { kind: "standard", type: 4, code: 9 });
    assert.deepEqual(errorCode("OFPBMC_BAD_PREREQ", 0), { kind: "vendor", vendor: 0x2320, type: 1, code: 260 });
    assert.deepEqual(errorCode("NXFMFC_INVALID_TLV_FIELD", 5), { kind: "experimenter", vendor: 0x2320, code: 37 });
    assert.equal(errorCode("OFPBMC_BAD_LEN", 0), undefined);
    let same = 0;
    for (const name of Object.keys(OPENFLOW_ERRORS) as OpenFlowErrorName[]) {
      for (const minor of [0, 1, 2, 3, 4, 5] as const) {
        const code = errorCode(name, minor);
        if (code === undefined) continue;
        const back = errorName(code, minor)!;
        assert.deepEqual(errorCode(back, minor), code);
        if (back === name) same++;
      }
    }
    assert.ok(same > 600, String(same));
  });
});
