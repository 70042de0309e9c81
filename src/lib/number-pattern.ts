/** Whole numbers of a range as a regular expression, for schemas that know texts by their patterns alone. */

/** Source of what matches the decimal digits of `min` to `max`, both inclusive, zeros before them too. Not anchored. */
export function numberPattern(min: 0 | 1, max: number): string {
  const digits = String(max);
  const ofAsMany = [...digits].flatMap((digit, at) => belowAt(digits, at, Number(digit) - 1));
  const shorter = digits.length === 1 ? [] : [`[1-9]${anyDigits(0, digits.length - 2)}`];
  return `0*(${[...(min === 0 ? ["0"] : []), ...shorter, ...ofAsMany, digits].join("|")})`;
}

/** Those that are as `digits` up to `at`, and have `most` there at most. */
function belowAt(digits: string, at: number, most: number): string[] {
  const least = at === 0 ? 1 : 0;
  const left = digits.length - at - 1;
  return most < least ? [] : [`${digits.slice(0, at)}[${least}-${most}]${anyDigits(left, left)}`];
}

function anyDigits(min: number, max: number): string {
  return max === 0 ? "" : `[0-9]{${min},${max}}`;
}
