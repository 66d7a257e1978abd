// Actions that choose by a hash of the packet: bundle, bundle_load, multipath.

import { BUNDLE_ALGORITHMS, HASH_FIELDS, MULTIPATH_ALGORITHMS, type ActionOf, type HashFields } from "../action.js";
import type { ParseContext } from "../parse/context.js";
import type { Piece } from "../parse/source.js";
import { portToText } from "../ports.js";
import { subfieldText } from "../print/subfield.js";
import { PORT } from "../types.js";
import { atoi, checkPort, needsField, parsePort, wholeSubfield, words, writableSubfield } from "./common.js";
import type { Parse, Rows } from "./row.js";

/** OVS BUNDLE_MAX_MEMBERS. */
const MAX_MEMBERS = 2048;

const MAX_LINKS = 65536;

const COMMA = /[, ]/;

const oneOf = <T extends string>(context: ParseContext, piece: Piece, names: readonly T[], what: string): T =>
  names.find((name) => name === piece.text.toLowerCase()) ??
  context.fail(piece.at, `Cannot read ${what} "${piece.text}": want one of ${names.join(", ")}`);

const hashFields = (context: ParseContext, piece: Piece): HashFields => oneOf(context, piece, HASH_FIELDS, "fields");

const bundle =
  (load: boolean): Parse =>
  ({ context }, value) => {
    const dst = load ? ",DST" : "";
    const want = `want FIELDS,BASIS,ALGORITHM,ofport${dst},members:PORT,...`;
    const fail = (at: number): never => context.fail(at, `Cannot read "${value.text}": ${want}`);
    const colon = value.text.search(/(?:members|slaves)[: ]/i);
    if (colon < 0) return fail(value.at);
    const head = words({ text: value.text.slice(0, colon), at: value.at }, COMMA);
    const [fields, basis, algorithm, memberType, target, ...extra] = head;
    if (fields === undefined || basis === undefined || algorithm === undefined || memberType === undefined) {
      return fail(value.at);
    }
    if (load ? target === undefined || extra.length > 0 : target !== undefined) return fail(value.at);
    oneOf(context, memberType, ["ofport"], "type of members");
    const from = colon + "members".length + (/^slaves/i.test(value.text.slice(colon)) ? -1 : 0) + 1;
    const members = words({ text: value.text.slice(from), at: value.at + from }, /[, [\]]/)
      .slice(0, MAX_MEMBERS)
      .map((member) => parsePort(context, member, "choose"));
    return {
      kind: "bundle",
      fields: hashFields(context, fields),
      basis: atoi(basis.text, 16),
      algorithm: oneOf(context, algorithm, BUNDLE_ALGORITHMS, "algorithm"),
      members,
      ...(target === undefined ? {} : { dst: writableSubfield(context, target) }),
    };
  };

const multipath: Parse = ({ context }, value) => {
  const [fields, basis, algorithm, nLinks, arg, dst] = words(value, COMMA);
  if (fields === undefined || basis === undefined || algorithm === undefined || nLinks === undefined) {
    return context.fail(value.at, `Cannot read "${value.text}": ${WANT_MULTIPATH}`);
  }
  if (arg === undefined || dst === undefined) {
    return context.fail(value.at, `Cannot read "${value.text}": ${WANT_MULTIPATH}`);
  }
  const links = atoi(nLinks.text, 32);
  if (links < 1 || links > MAX_LINKS) {
    context.fail(nLinks.at, `Cannot choose among ${nLinks.text} links: want 1 to ${MAX_LINKS}`);
  }
  const target = wholeSubfield(context, dst).subfield;
  if (target.bits < 16 && links > 2 ** target.bits) {
    context.fail(dst.at, `Cannot number ${links} links with ${target.bits} bits: want more bits`);
  }
  return {
    kind: "multipath",
    fields: hashFields(context, fields),
    basis: atoi(basis.text, 16),
    algorithm: oneOf(context, algorithm, MULTIPATH_ALGORITHMS, "algorithm"),
    maxLink: links - 1,
    arg: atoi(arg.text, 32),
    dst: writableSubfield(context, dst),
  };
};

const WANT_MULTIPATH = "want FIELDS,BASIS,ALGORITHM,LINKS,ARG,DST";

const bundleText = (a: ActionOf<"bundle">, ports: Parameters<typeof portToText>[1]): string => {
  const members = a.members.map((port) => portToText(port, ports)).join(",");
  const head = `${a.fields},${a.basis},${a.algorithm},ofport,`;
  return a.dst === undefined
    ? `bundle(${head}members:${members})`
    : `bundle_load(${head}${subfieldText(a.dst)},members:${members})`;
};

export const SELECT: Rows<"bundle" | "multipath"> = {
  bundle: {
    parse: { bundle: bundle(false), bundle_load: bundle(true) },
    print: (a, { ports }) => bundleText(a, ports),
    check: (s, a, { at }) => {
      if (a.dst !== undefined) needsField(s, at, a.dst.field, "choose into");
      for (const port of a.members) {
        if (port !== PORT.NONE) checkPort(s.context, port, at);
        if (port === PORT.CONTROLLER) s.context.fail(at, "Cannot choose CONTROLLER: want ports as members");
      }
    },
    carry: (a) => (a.dst !== undefined && a.dst.bits < 16 ? undefined : [a]),
  },
  multipath: {
    parse: { multipath },
    print: (a) => `multipath(${a.fields},${a.basis},${a.algorithm},${a.maxLink + 1},${a.arg},${subfieldText(a.dst)})`,
    check: (s, a, { at }) => needsField(s, at, a.dst.field, "choose into"),
    carry: (a) => (2 ** a.dst.bits < a.maxLink + 1 ? undefined : [a]),
  },
};
