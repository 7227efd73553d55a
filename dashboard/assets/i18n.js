// The texts of the page, in the language that the server chose for `<html lang>`.

export const LANGUAGES = { en: 'English', 'zh-TW': '繁體中文' };

/** The language of the page. */
export const language = document.documentElement.lang in LANGUAGES ? document.documentElement.lang : 'en';

const response = await fetch(new URL(`i18n/${language}.json`, import.meta.url));
const texts = await response.json();

/** The text of `key`, `{placeholders}` filled in. A missing text shows its key rather than nothing. */
export function t(key, values) {
  const text = texts[key] ?? key;
  return values ? text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole) : text;
}

/** Whether there is a text of this key; for words that come from the cluster. */
export function has(key) {
  return key in texts;
}

/** The text for a word of the cluster (`Valid`, `Distributing`); a word of a newer operator shows as it is. */
export function word(group, value) {
  const key = `${group}.${value}`;
  return has(key) ? t(key) : String(value ?? '');
}
