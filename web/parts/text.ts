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
