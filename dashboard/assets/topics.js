// MQTT topic filters (MQTT 5, section 4.7).

/** Whether `filter`, with `+` for one level and `#` for all that follow, selects `topic`. */
export function matches(filter, topic) {
  const wanted = filter.split('/');
  const levels = topic.split('/');
  // Wildcards at the beginning do not reach the broker's own topics.
  if (topic.startsWith('$') && (wanted[0] === '#' || wanted[0] === '+')) return false;
  for (const [index, level] of wanted.entries()) {
    if (level === '#') return index === wanted.length - 1;
    if (index >= levels.length) return false;
    if (level !== '+' && level !== levels[index]) return false;
  }
  return wanted.length === levels.length;
}

/** What a person types who is looking for something: a filter if it has wildcards, else part of a topic. */
export function selects(text, topic) {
  if (!text) return true;
  return /[+#]/.test(text) ? matches(text, topic) : topic.includes(text);
}
