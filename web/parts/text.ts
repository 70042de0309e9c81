/** Text that is shown, or put into a command, as what it is. */

/**
 * Text whose characters can all be seen: those that control a terminal, or turn the direction of what is beside them,
 * as their code points. `lines`: line ends and tabs stay.
 */
export function visible(text: string, lines = false): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (character) => {
    if (lines && (character === "\n" || character === "\t" || character === "\r")) return character;
    return `\\u{${character.codePointAt(0)!.toString(16)}}`;
  });
}

/** A word that a shell takes as it is. */
export function shellWord(text: string): string {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Bytes as `hexdump -C` shows them, sixteen a line, without the closing offset. */
export function hexDump(bytes: Uint8Array): string {
  let dump = "";
  for (let from = 0; from < bytes.length; from += 16) {
    const line = bytes.subarray(from, from + 16);
    const hex = Array.from({ length: 16 }, (_, i) => {
      const byte = line[i];
      return `${byte === undefined ? "  " : byte.toString(16).padStart(2, "0")}${i === 7 ? "  " : " "}`;
    }).join("");
    const ascii = Array.from(line, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
    dump += `${from.toString(16).padStart(8, "0")}  ${hex} |${ascii}|\n`;
  }
  return dump;
}
