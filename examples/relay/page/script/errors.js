// ---- Error messages: the cause, and advice

const ERRORS = {
  expired: {
    sender: ['The link has expired', 'It was not opened in time. Create a new one when the other device is ready.'],
    receiver: ['This link has expired', 'It was not opened in time. Ask the sender for a new one.'],
  },
  gone: {
    sender: ['The link no longer works', 'The relay no longer has it. Create a new one.'],
    receiver: ['This link no longer works', 'It has been used, it has expired, or the sender has closed the page. Ask for a new one.'],
  },
  used: {
    sender: ['Another sender has used the link', 'Create a new one.'],
    receiver: ['This link has already been used', 'It works only once. If you did not open it, ask the sender for a new one.'],
  },
  source: {
    sender: ['The connection was lost', 'Check this device\u2019s network, then try again with a new link.'],
    receiver: ['The sender has disconnected', 'If a part has arrived, it is not complete: delete it, and ask the sender for a new link.'],
  },
  destination: {
    sender: ['The receiver has disconnected', 'It has not received everything. Try again with a new link.'],
    receiver: ['The download was interrupted', 'What has arrived is not complete. Ask the sender for a new link.'],
  },
  cancelled: {
    sender: ['The receiver declined', 'The receiver does not want this now.'],
    receiver: ['The sender has cancelled', 'The sender has cancelled, or closed the page. Ask for a new link if you expected something.'],
  },
  stopped: {
    sender: ['The relay has stopped', 'Not everything has arrived. Try again with a new link in a moment.'],
    receiver: ['The relay has stopped', 'What has arrived is not complete. Ask the sender for a new link in a moment.'],
  },
  busy: {
    sender: ['The relay is busy', 'It has too many transfers at the moment.'],
    receiver: ['The relay is busy', 'It has too many transfers at the moment.'],
  },
  large: {
    sender: ['Too large for this relay', 'Send it in parts, or ask the operator of the relay for a higher limit.'],
    receiver: ['Too large for this relay', 'Ask the sender to send it in parts.'],
  },
  long: {
    receiver: ['The text is too long to show', 'Ask the sender to send it as a file.'],
  },
  missed: {
    receiver: ['The transfer is over', 'This page was suspended and does not know how it ended. The downloads of this browser show whether it is complete.'],
  },
  stopping: {
    sender: ['The relay is being restarted', 'Try again in a moment.'],
    receiver: ['The relay is being restarted', 'Ask the sender for a new link in a moment.'],
  },
  unreachable: {
    sender: ['The relay cannot be reached', 'Check this device\u2019s network, then try again.'],
    receiver: ['The relay cannot be reached', 'Check this device\u2019s network, then open the link again.'],
  },
  unreadable: {
    sender: ['The file could not be read', 'It has been changed, moved or deleted. Choose it again.'],
  },
  other: {
    sender: ['The transfer failed', 'Try again with a new link.'],
    receiver: ['The transfer failed', 'Ask the sender for a new link.'],
  },
};

// Causes by error names and states of the rendezvous.
const CAUSES = {
  SessionTimeoutError: 'expired', TIMEOUT_NO_SRC: 'expired', TIMEOUT_NO_DST: 'expired', TIMEOUT_NO_SRC_NO_DST: 'expired',
  SessionNotFoundError: 'gone', BadRouteError: 'gone', AlreadyConnectedError: 'used', StreamStartedError: 'used',
  StreamSourceError: 'source', SRC_DISCONNECTED: 'source', SRC_ERROR: 'source',
  StreamDestinationError: 'destination', DST_DISCONNECTED: 'destination', DST_ERROR: 'destination',
  CancelledError: 'cancelled', DeclinedError: 'cancelled', Error: 'cancelled', CLIENT_ERROR: 'cancelled',
  TooManyStreamsError: 'busy', RateLimitError: 'busy', BodyTooLargeError: 'large', ServerStoppingError: 'stopping',
};

// Causes by status, for responses of a proxy or the engine instead of the rendezvous.
const STATUSES = { 404: 'gone', 413: 'large', 429: 'busy', 502: 'stopping', 503: 'stopping', 504: 'stopping' };

const cause = (name, status) => (Object.hasOwn(CAUSES, name) ? CAUSES[name] : STATUSES[status] ?? 'other');

// Returns the name of the error in a response's body.
function errorName(text) {
  try { return String(JSON.parse(text).name); } catch { return ''; }
}

function fail(its, reason, more = '') {
  if (its !== job) return;
  const [title, advice] = ERRORS[reason][its.role] ?? ERRORS.other[its.role];
  finish(false, title, `${advice} ${more}`, its.role === 'sender');
}

function finish(good, title, text, again = false) {
  const { again: repeat, role } = stop() ?? {};
  // SVG elements have no `hidden` property.
  $('good').toggleAttribute('hidden', !good);
  $('bad').toggleAttribute('hidden', good);
  $('over-title').textContent = title;
  $('over-text').textContent = text;
  $('again').hidden = !again || !repeat;
  $('again').onclick = repeat;
  $('fresh').textContent = role === 'receiver' ? 'Send something yourself' : good ? 'Send another' : 'Send something else';
  $('fresh').className = again && repeat ? 'quiet' : '';
  show('over');
}

// Returns the cause of an error response, and advice.
async function rejection(response) {
  const reason = cause(errorName(await response.text().catch(() => '')), response.status);
  const after = Number(response.headers.get('Retry-After'));
  return [reason, reason === 'busy' ? `Try again ${after > 0 ? `in ${span(after)}` : 'in a moment'}.` : ''];
}
