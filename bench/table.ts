// Tables of text.

export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => string;
  /** Words to the left, figures (the default) to the right. */
  readonly align?: "left";
}

/** The rows under their titles, a line each, without the last line feed. */
export const formatColumns = <Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string => {
  const cells = [columns.map(({ title }) => title), ...rows.map((row) => columns.map(({ cell }) => cell(row)))];
  const widths = columns.map((_, i) => Math.max(...cells.map((line) => line[i]!.length)));
  return cells
    .map((line) =>
      line
        .map((cell, i) => (columns[i]!.align === "left" ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
};
