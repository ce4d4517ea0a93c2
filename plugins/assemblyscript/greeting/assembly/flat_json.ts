// Reads a flat JSON object: string keys, and values that are strings or whole numbers.
//
// The law: a plugin's configuration needs no more, so nested values, fractions, true, false and null are errors, as is
// anything that RFC 8259 does not allow. After the last field, or after an error, `next` answers false; `error` tells
// the two apart.

const QUOTE: i32 = 34;
const BACKSLASH: i32 = 92;
const MINUS: i32 = 45;
const ZERO: i32 = 48;
const NINE: i32 = 57;
const LOWER_U: i32 = 117;

const ESCAPES: string = "\"\\/bfnrt";
const MEANINGS: string = "\"\\/\b\f\n\r\t";

export class FlatJson {
  key: string = "";
  isString: bool = false;
  text: string = "";
  integer: i64 = 0;
  error: string = "";

  private at: i32 = 0;
  private begun: bool = false;

  constructor(private document: string) {}

  // Moves to the next field: key, isString, and text or integer.
  next(): bool {
    if (this.error != "") return false;
    if (!this.begun) {
      this.begun = true;
      if (!this.take("{")) return this.fail("a JSON object was expected");
      if (this.take("}")) return this.end();
    } else {
      if (this.take("}")) return this.end();
      if (!this.take(",")) return this.fail("a comma or the end of the object was expected");
    }
    this.key = this.string();
    if (this.error != "") return false;
    if (!this.take(":")) return this.fail("a colon was expected after a key");
    this.skipSpace();
    this.isString = this.unit() == QUOTE;
    if (this.isString) {
      this.text = this.string();
    } else {
      this.integer = this.number();
    }
    return this.error == "";
  }

  private fail(error: string): bool {
    if (this.error == "") this.error = error;
    return false;
  }

  private end(): bool {
    this.skipSpace();
    return this.at == this.document.length ? false : this.fail("text after the object");
  }

  // The code unit here; -1 at the end.
  private unit(): i32 {
    return this.at < this.document.length ? this.document.charCodeAt(this.at) : -1;
  }

  private skipSpace(): void {
    while (this.at < this.document.length && " \t\n\r".includes(this.document.charAt(this.at))) this.at++;
  }

  private take(wanted: string): bool {
    this.skipSpace();
    if (this.document.charAt(this.at) != wanted) return false;
    this.at++;
    return true;
  }

  private string(): string {
    const units = new Array<i32>();
    if (!this.take("\"")) {
      this.fail("a string was expected");
    } else {
      while (this.scan(units)) {}
    }
    return String.fromCharCodes(units);
  }

  // Appends one character of a string; false at its closing quote, or at an error.
  private scan(units: Array<i32>): bool {
    let unit = this.unit();
    this.at++;
    if (unit == QUOTE) return false;
    if (unit == -1) return this.fail("a string without end");
    if (unit < 32) return this.fail("a control character in a string");
    if (unit == BACKSLASH) unit = this.escape();
    if (unit == -1) return this.fail("an unknown escape in a string");
    units.push(unit);
    return true;
  }

  // The code unit that an escape stands for; -1 if there is none.
  private escape(): i32 {
    const name = this.unit();
    this.at++;
    if (name != LOWER_U) {
      for (let i = 0; i < ESCAPES.length; i++) {
        if (ESCAPES.charCodeAt(i) == name) return MEANINGS.charCodeAt(i);
      }
      return -1;
    }
    let code = 0;
    for (let i = 0; i < 4; i++) {
      const digit = hexDigit(this.unit());
      this.at++;
      if (digit < 0) return -1;
      code = code * 16 + digit;
    }
    return code;
  }

  private number(): i64 {
    const negative = this.unit() == MINUS;
    if (negative) this.at++;
    const first = this.at;
    let value: i64 = 0;
    while (this.unit() >= ZERO && this.unit() <= NINE) {
      // 15 digits are far above every number that is asked for, and far below an overflow.
      if (this.at - first == 15) {
        this.fail("a number is too long");
        return 0;
      }
      value = value * 10 + (this.unit() - ZERO);
      this.at++;
    }
    if (this.at == first) {
      this.fail("a value must be a string or a whole number");
    } else if (this.document.charAt(first) == "0" && this.at - first > 1) {
      this.fail("a number with a leading zero");
    } else if (".eE".includes(this.document.charAt(this.at)) && this.at < this.document.length) {
      this.fail("a number must be whole");
    }
    return negative ? -value : value;
  }
}

function hexDigit(unit: i32): i32 {
  const letter = unit | 32;
  if (unit >= ZERO && unit <= NINE) return unit - ZERO;
  return letter >= 97 && letter <= 102 ? letter - 87 : -1;
}
