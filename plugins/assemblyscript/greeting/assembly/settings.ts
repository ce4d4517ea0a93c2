// The plugin's configuration, checked: `error` is empty when it can be used, else it says what is wrong.

import { FlatJson } from "./flat_json";

export class Settings {
  header: string = "x-greeting";
  value: string = "";
  reply_path: string = "";
  reply_body: string = "";
  reply_status: i32 = 403;
  error: string = "";
}

export function parse(document: string): Settings {
  const settings = new Settings();
  const json = new FlatJson(document);
  while (settings.error == "" && json.next()) accept(settings, json);
  if (settings.error == "") settings.error = json.error != "" ? json.error : complaint(settings);
  return settings;
}

function accept(settings: Settings, json: FlatJson): void {
  const key = json.key;
  if (key == "reply_status") {
    if (json.isString || json.integer < 200 || json.integer > 599) {
      settings.error = "a number from 200 to 599 is expected for " + key;
    }
    settings.reply_status = json.integer as i32;
  } else if (key != "header" && key != "value" && key != "reply_path" && key != "reply_body") {
    settings.error = "unknown key " + key;
  } else if (!json.isString) {
    settings.error = "a string is expected for " + key;
  } else if (key == "header") {
    settings.header = json.text;
  } else if (key == "value") {
    settings.value = json.text;
  } else if (key == "reply_path") {
    settings.reply_path = json.text;
  } else {
    settings.reply_body = json.text;
  }
}

function complaint(settings: Settings): string {
  if (!isToken(settings.header)) return "not a header name: " + settings.header;
  if (settings.value == "" || !isLine(settings.value)) return "one line of text is expected for value";
  if (settings.reply_path != "" && !settings.reply_path.startsWith("/")) {
    return "a path that begins with / is expected for reply_path";
  }
  return "";
}

// A field name as RFC 9110 section 5.1 wants it.
function isToken(text: string): bool {
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    const letter = unit | 32;
    if ((letter < 97 || letter > 122) && (unit < 48 || unit > 57) && !"!#$%&'*+-.^_`|~".includes(text.charAt(i))) {
      return false;
    }
  }
  return text.length > 0;
}

function isLine(text: string): bool {
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 32 || unit == 127) return false;
  }
  return true;
}
