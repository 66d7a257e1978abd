// The command line of `npm run bench`, as a table that both parser and help are made of.

import { parseArgs } from "node:util";
import type { Hook } from "#compiler";
import { PROFILES, type Profile } from "./datapath/case.js";
import { BenchError } from "./error.js";
import { GROUPS, type Group } from "./row.js";
import type { WireOptions } from "./wire/run.js";

/** Numbers that a profile stands for. */
export interface ProfileNumbers {
  readonly rounds: number;
  readonly repeat: number;
}

export const PROFILE_NUMBERS: Readonly<Record<Profile, ProfileNumbers>> = {
  // Seven rounds are the fewest that `bench:compare` can tell anything from.
  quick: { rounds: 7, repeat: 100_000 },
  usual: { rounds: 11, repeat: 200_000 },
  full: { rounds: 15, repeat: 400_000 },
};

export const WIRE_NUMBERS: Readonly<Record<Profile, Omit<WireOptions, "signal">>> = {
  quick: { rounds: 3, packetsMs: 150, tcpRounds: 1, tcpSeconds: 1 },
  usual: { rounds: 9, packetsMs: 200, tcpRounds: 3, tcpSeconds: 1 },
  full: { rounds: 15, packetsMs: 500, tcpRounds: 9, tcpSeconds: 2 },
};

export interface BenchOptions extends ProfileNumbers {
  readonly profile: Profile;
  readonly groups: readonly Group[];
  /** Names of cases; undefined = all. */
  readonly cases: readonly string[] | undefined;
  readonly flows: readonly number[] | undefined;
  readonly hooks: readonly Hook[] | undefined;
  /** Where the results go; default bench/results. */
  readonly out: string | undefined;
  readonly list: boolean;
  readonly help: boolean;
}

const HOOKS = ["xdp", "tc"] as const satisfies readonly Hook[];

export const HELP = `Usage: npm run bench -- [OPTION]...

Measures the compiled datapath, the daemon and traffic through it beside hand-written C, the Linux bridge and Open vSwitch,
in network namespaces of its own. Needs root, clang and libbpf-dev; openvswitch-switch and iperf3 where they come in.
Writes bench/results/latest.json and pictures beside it. Takes about five minutes.

  --quick       the smallest sizes, under a minute
  --full        all sizes up to a million flows, as long as it takes
  --group NAME  only this group: ${GROUPS.join(", ")}
  --case NAME   only this case (see --list)
  --flows N     datapath cases with N flows, in place of their own numbers
  --hook HOOK   datapath cases only at this hook: ${HOOKS.join(", ")}
  --rounds N    rounds of which the median is taken (default ${PROFILE_NUMBERS.usual.rounds})
  --repeat N    packets per run of a datapath case (default ${PROFILE_NUMBERS.usual.repeat})
  --out DIR     where results go
  --list        names of the cases
`;

const wholeNumber = (name: string, text: string): number => {
  const n = Number(text);
  if (!Number.isSafeInteger(n) || n < 1) throw new BenchError(`Bad --${name} ${text}: want a whole number from 1`);
  return n;
};

const someOf = <T extends string>(name: string, have: readonly string[], all: readonly T[]): T[] =>
  have.map((x) => {
    const found = all.find((known) => known === x);
    if (found === undefined) throw new BenchError(`Bad --${name} ${x}: want one of ${all.join(", ")}`);
    return found;
  });

/** @throws {@link BenchError} for a bad value, TypeError of parseArgs for an unknown option */
export const parseOptions = (args: readonly string[], caseNames: readonly string[]): BenchOptions => {
  const many = { type: "string", multiple: true } as const;
  const flag = { type: "boolean", default: false } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...Object.fromEntries(PROFILES.filter((p) => p !== "usual").map((p) => [p, flag])),
      group: many,
      case: many,
      flows: many,
      hook: many,
      rounds: { type: "string" },
      repeat: { type: "string" },
      out: { type: "string" },
      list: flag,
      help: flag,
    },
  });
  const profile = PROFILES.find((p) => (values as Record<string, unknown>)[p] === true) ?? "usual";
  const numbers = PROFILE_NUMBERS[profile];
  const { group, flows, hook, rounds, repeat } = values;
  return {
    profile,
    rounds: rounds === undefined ? numbers.rounds : wholeNumber("rounds", rounds),
    repeat: repeat === undefined ? numbers.repeat : wholeNumber("repeat", repeat),
    groups: group === undefined ? GROUPS : someOf("group", group, GROUPS),
    cases: values.case === undefined ? undefined : someOf("case", values.case, caseNames),
    flows: flows?.map((n) => wholeNumber("flows", n)),
    hooks: hook === undefined ? undefined : someOf("hook", hook, HOOKS),
    out: values.out,
    list: values.list === true,
    help: values.help === true,
  };
};
