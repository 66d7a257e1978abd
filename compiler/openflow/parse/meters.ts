// Meter text in the syntax of `ovs-ofctl add-meter`, one per line:
// `meter=1 pktps burst stats bands=type=drop rate=1000 burst_size=100`. What OVS refuses is refused here too.

import type { Meter, MeterBand, MeterBandType, MeterFlag } from "../types.js";
import { contentLines, parseEach, requireAll, type LineResult } from "./lines.js";
import { numberIn } from "./numbers.js";
import { fail, type Line, type Piece } from "./source.js";
import type { ParseOptions } from "./flows.js";

export type MeterCommand = "add" | "modify" | "delete";

/** A meter and what to do with it. */
export interface MeterMod {
  readonly command: MeterCommand;
  /** To delete, its number alone counts; {@link METER.ALL} deletes every meter. */
  readonly meter: Meter;
  /** Where it was written. */
  readonly source?: { readonly file: string; readonly line: number };
}

/** Numbers of meters that are more than numbers (ofp13_meter). */
export const METER = { MAX: 0xffff0000, SLOWPATH: 0xfffffffd, CONTROLLER: 0xfffffffe, ALL: 0xffffffff } as const;

/** By their names in text. */
const RESERVED: Readonly<Record<string, number>> = {
  slowpath: METER.SLOWPATH,
  controller: METER.CONTROLLER,
  all: METER.ALL,
};

/** In the order in which they are printed. */
export const METER_FLAGS = ["kbps", "pktps", "burst", "stats"] as const satisfies readonly MeterFlag[];

const BAND_TYPES = ["drop", "dscp_remark"] as const satisfies readonly MeterBandType[];

/** Bands that a meter can have (MAX_BANDS of OVS's datapath). */
export const MAX_BANDS = 8;

const U32 = 0xffffffff;
const SPACE = ", \t\r\n";

/** Takes words off a line as strtok() does: a name ends at `=` or space, a value at space alone. */
class Words {
  #at: number;

  constructor(
    private readonly piece: Piece,
    from = 0,
  ) {
    this.#at = from;
  }

  #word(delimiters: string): Piece | undefined {
    const { text, at } = this.piece;
    let from = this.#at;
    while (from < text.length && delimiters.includes(text[from]!)) from++;
    let to = from;
    while (to < text.length && !delimiters.includes(text[to]!)) to++;
    this.#at = Math.min(to + 1, text.length);
    return to === from ? undefined : { text: text.slice(from, to), at: at + from };
  }

  name(): Piece | undefined {
    return this.#word(`=${SPACE}`);
  }

  value(line: Line, name: Piece): Piece {
    return this.#word(SPACE) ?? fail(line, name.at, `Cannot read ${name.text}: want a value`);
  }
}

const meterId = (line: Line, value: Piece): number => {
  if (Object.hasOwn(RESERVED, value.text)) return RESERVED[value.text]!;
  const id = numberIn(line, value, "meter", METER.MAX);
  return id === 0 ? fail(line, value.at, `Cannot number a meter 0: want 1 to ${METER.MAX}`) : id;
};

interface Head {
  readonly id: number;
  readonly flags: ReadonlySet<MeterFlag>;
}

const parseHead = (line: Line, piece: Piece, takesFlags: boolean): Head => {
  const flags = new Set<MeterFlag>();
  let id: number | undefined;
  const words = new Words(piece);
  for (let name = words.name(); name !== undefined; name = words.name()) {
    const flag = METER_FLAGS.find((each) => each === name?.text);
    if (takesFlags && flag !== undefined) {
      flags.add(flag);
      continue;
    }
    const value = words.value(line, name);
    if (name.text !== "meter") {
      fail(line, name.at, `Cannot find "${name.text}": want meter, ${METER_FLAGS.join(", ")} or bands`);
    }
    id = meterId(line, value);
  }
  return { id: id ?? fail(line, piece.at, "Cannot find the number of the meter: want meter="), flags };
};

interface DraftBand {
  readonly at: number;
  readonly type: MeterBandType;
  rate: number;
  burstSize: number;
  precLevel: number;
}

const parseBand = (line: Line, name: Piece, value: Piece, band: DraftBand): void => {
  if (name.text === "rate") band.rate = numberIn(line, value, "rate", U32);
  else if (name.text === "burst_size") band.burstSize = numberIn(line, value, "burst_size", U32);
  else if (name.text === "prec_level") band.precLevel = numberIn(line, value, "prec_level", 0xff);
  else fail(line, name.at, `Cannot find "${name.text}": want type, rate, burst_size or prec_level`);
};

const checkBand = (line: Line, { at, type, rate, burstSize, precLevel }: DraftBand, hasBurst: boolean): void => {
  if (type === "dscp_remark" && precLevel === 0) fail(line, at, "Cannot remark without prec_level: want 1 to 255");
  if (type === "drop" && precLevel !== 0) fail(line, at, "Cannot use prec_level to drop: want type=dscp_remark");
  if (rate === 0) fail(line, at, "Cannot find the rate of the band: want rate=");
  if (hasBurst && burstSize === 0) fail(line, at, 'Cannot find the burst of the band: want burst_size=, or no "burst"');
  if (!hasBurst && burstSize !== 0) fail(line, at, 'Cannot use burst_size: want the word "burst" before the bands');
};

const parseBands = (line: Line, piece: Piece, hasBurst: boolean): MeterBand[] => {
  const bands: DraftBand[] = [];
  const words = new Words(piece);
  for (let name = words.name(); name !== undefined; name = words.name()) {
    const value = words.value(line, name);
    if (name.text === "type") {
      const type =
        BAND_TYPES.find((each) => each === value.text) ??
        fail(line, value.at, `Cannot find a band of type "${value.text}": want ${BAND_TYPES.join(" or ")}`);
      bands.push({ at: name.at, type, rate: 0, burstSize: 0, precLevel: 0 });
      continue;
    }
    const band = bands.at(-1) ?? fail(line, name.at, "Cannot begin a band: want its type first");
    parseBand(line, name, value, band);
  }
  if (bands.length === 0) fail(line, piece.at, "Cannot find the bands of the meter: want type=");
  if (bands.length > MAX_BANDS) {
    fail(line, bands[MAX_BANDS]!.at, `Cannot use ${bands.length} bands: want at most ${MAX_BANDS}`);
  }
  for (const band of bands) checkBand(line, band, hasBurst);
  return bands.map(({ type, rate, burstSize, precLevel }) => ({ type, rate, burstSize, precLevel }));
};

const parseWhole = (line: Line): Meter => {
  const { text } = line;
  const mark = text.indexOf("band");
  const equals = mark < 0 ? -1 : text.indexOf("=", mark);
  if (equals < 0) fail(line, text.length, "Cannot find the bands of the meter: want bands=");
  const { id, flags } = parseHead(line, { text: text.slice(0, mark), at: 0 }, true);
  if (id === METER.ALL) fail(line, 0, "Cannot make all meters one: want a number, controller or slowpath");
  if (flags.has("kbps") && flags.has("pktps")) {
    fail(line, 0, "Cannot meter packets and bits at once: want kbps or pktps");
  }
  if (!flags.has("kbps") && !flags.has("pktps")) fail(line, 0, "Cannot tell what the meter counts: want kbps or pktps");
  const bands = parseBands(line, { text: text.slice(equals + 1), at: equals + 1 }, flags.has("burst"));
  return { id, flags: METER_FLAGS.filter((flag) => flags.has(flag)), bands };
};

const parseLine = (line: Line, command: MeterCommand): MeterMod => {
  const source = { file: line.file, line: line.number };
  if (command !== "delete") return { command, meter: parseWhole(line), source };
  const { id } = parseHead(line, { text: line.text, at: 0 }, false);
  return { command, meter: { id, flags: [], bands: [] }, source };
};

const DEFAULT_FILE = "<meters>";

/** Every line of meter text, each with its meter or its error. */
export const parseMeterLines = (text: string, options: ParseOptions = {}): LineResult<MeterMod>[] =>
  parseEach(contentLines(text, options.file ?? DEFAULT_FILE), (line) => parseLine(line, "add"));

/**
 * Parses text that adds meters.
 *
 * @throws CompileError with one complaint per wrong line
 */
export const parseMeterMods = (text: string, options: ParseOptions = {}): MeterMod[] =>
  requireAll(parseMeterLines(text, options));

/** Parses one change of a meter: `add-meter`, `mod-meter`, `del-meters`. @throws CompileError */
export const parseMeterMod = (text: string, command: MeterCommand = "add", options: ParseOptions = {}): MeterMod =>
  parseLine({ file: options.file ?? DEFAULT_FILE, number: 1, text }, command);
