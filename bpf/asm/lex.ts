// Splits one statement of assembly text into tokens with columns. A token's `kind` is what the grammar of text.ts sees:
// registers, numbers and jump targets become one kind each, everything else stands for itself.

/** Kinds that stand for many spellings. */
export type OperandKind = "r#" | "w#" | "#" | "target" | "ref";

export interface Token {
  /** An {@link OperandKind}, or the text itself. */
  readonly kind: string;
  readonly text: string;
  /** Counts from 1. */
  readonly column: number;
  /** Register number or value of a number. */
  readonly value: number | bigint;
}

const REGISTER = /[rw]\d+\b/y;
/** References of a `ld_imm64`: `map[flows]`, `map[fd:3][0]+8`, `subprog[+5]`. */
const REFERENCE = /(?:map|subprog)\[[^\]]*\](?:\[0\]\+\d+)?/y;
/** Operators, longest first; the signed ones start with a letter. */
const OPERATOR = /<<=|s?(?:>>=|\/=|%=|>=|<=|>|<)|==|!=|[-+*|&^]=/y;
/** With its sign; the kernel prints `skb[r1 + -4]`. */
const NUMBER = /(?:\+[ \t]*)?(?:-[ \t]*)?(?:0[xX][0-9a-fA-F]+|\d+)\b/y;
const WORD = /\.?[A-Za-z_][\w.]*/y;
/** `pc+17`, `+17`, a label, `bpf_map_lookup_elem#1`, `kernel-function#77`, `0x1`. */
const TARGET = /(?:pc)?[-+]\d+\b|0[xX][0-9a-fA-F]+\b|\d+\b|kernel-function#\d+|[A-Za-z_.$][\w.$]*(?:#\d+)?/y;
/** Words after which a jump target or a function follows. */
const BEFORE_TARGET = new Set(["goto", "gotol", "may_goto", "call"]);

const numberOf = (text: string): bigint => {
  const digits = BigInt(text.replace(/[-+ \t]/g, ""));
  return text.includes("-") ? -digits : digits;
};

/**
 * The tokens of `text` from offset `start` on. Characters that start no token become tokens of their own: the grammar
 * complains about them where they stand.
 */
export const lex = (text: string, start = 0): Token[] => {
  const tokens: Token[] = [];
  let at = start;
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0];
  };
  const push = (kind: string, found: string, value: number | bigint = 0): void => {
    tokens.push({ kind, text: found, column: at + 1, value });
    at += found.length;
  };
  for (;;) {
    while (/\s/.test(text[at] ?? "")) at++;
    if (at >= text.length) return tokens;
    let found: string | undefined;
    if (BEFORE_TARGET.has(tokens.at(-1)?.kind ?? "") && (found = take(TARGET))) push("target", found);
    else if ((found = take(REGISTER))) push(found[0] === "r" ? "r#" : "w#", found, Number(found.slice(1)));
    else if ((found = take(REFERENCE))) push("ref", found);
    else if ((found = take(OPERATOR))) push(found, found);
    else if ((found = take(NUMBER))) push("#", found, numberOf(found));
    else if ((found = take(WORD))) push(found, found);
    else push(text[at]!, text[at]!);
  }
};
