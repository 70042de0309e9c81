/**
 * A line as a shell reads it: words apart by blanks, `'…'` as it is, `"…"` with `\"` and `\\` in it, `\` before any one
 * character elsewhere. Nothing else is special.
 */

export interface Line {
  readonly words: readonly string[];
  /** Where the last word starts, if the line does not end in a blank outside quotes; else the line's length. */
  readonly lastStart: number;
  /** A quote that is not closed, or a `\` at the end. */
  readonly open: boolean;
}

export function splitWords(line: string): Line {
  const words: string[] = [];
  let word: string | undefined;
  let quote: "'" | '"' | undefined;
  let lastStart = line.length;
  let escaped = false;
  for (let at = 0; at < line.length; at++) {
    const char = line[at]!;
    if (word === undefined && quote === undefined) {
      if (/\s/.test(char)) continue;
      word = "";
      lastStart = at;
    }
    if (escaped) {
      if (quote === '"' && char !== '"' && char !== "\\") word += "\\";
      word += char;
      escaped = false;
    } else if (char === "\\" && quote !== "'") escaped = true;
    else if (quote !== undefined) {
      if (char === quote) quote = undefined;
      else word += char;
    } else if (char === "'" || char === '"') quote = char;
    else if (/\s/.test(char)) {
      words.push(word!);
      word = undefined;
      lastStart = line.length;
    } else word += char;
  }
  if (word !== undefined) words.push(word);
  return { words, lastStart: word === undefined ? line.length : lastStart, open: quote !== undefined || escaped };
}
