// ---- What can go wrong, in words that say what to do

const TROUBLE = {
  expired: {
    sender: ['The link has expired', 'Nobody opened it in time. Make a new one when the other device is at hand.'],
    receiver: ['This link has expired', 'It was not opened in time. Ask the sender for a new one.'],
  },
  gone: {
    sender: ['The link is gone', 'The relay does not know it any more. Make a new one.'],
    receiver: ['This link does not work any more', 'It was used, has expired, or the sender has closed the page. Ask for a new one.'],
  },
  used: {
    sender: ['The link was used by another sender', 'Make a new one.'],
    receiver: ['This link was used already', 'It works only once. If it was not you who opened it, ask the sender for a new one.'],
  },
  source: {
    sender: ['The connection was lost', 'Check this device\u2019s network, then try again with a new link.'],
    receiver: ['The sender has left', 'If a part has arrived, it is not complete: delete it, and ask the sender for a new link.'],
  },
  destination: {
    sender: ['The other side has left', 'It has not received everything. Try again with a new link.'],
    receiver: ['The download was broken off', 'What has arrived is not complete. Ask the sender for a new link.'],
  },
  cancelled: {
    sender: ['The other side said no', 'It does not want to receive this now.'],
    receiver: ['The sender has withdrawn it', 'They have cancelled, or closed the page. Ask for a new link if you expected something.'],
  },
  stopped: {
    sender: ['The relay has stopped', 'Not everything has arrived. Try again with a new link in a moment.'],
    receiver: ['The relay has stopped', 'What has arrived is not complete. Ask the sender for a new link in a moment.'],
  },
  busy: {
    sender: ['The relay is busy', 'Too much is going on just now.'],
    receiver: ['The relay is busy', 'Too much is going on just now.'],
  },
  large: {
    sender: ['That is too large for this relay', 'Send it in parts, or ask whoever runs the relay for a higher limit.'],
    receiver: ['That is too large for this relay', 'Ask the sender to send it in parts.'],
  },
  long: {
    receiver: ['The text is too long to be shown', 'Ask the sender to send it as a file.'],
  },
  missed: {
    receiver: ['The transfer is over', 'This page was asleep and does not know how it ended. Look among the downloads of this browser, which tell whether it is complete.'],
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
    sender: ['The file could not be read', 'It was changed, moved or deleted meanwhile. Choose it again.'],
  },
  other: {
    sender: ['That did not work', 'Try again with a new link.'],
    receiver: ['That did not work', 'Ask the sender for a new link.'],
  },
};

// By the names of errors, and of states, of the rendezvous.
const CAUSES = {
  SessionTimeoutError: 'expired', TIMEOUT_NO_SRC: 'expired', TIMEOUT_NO_DST: 'expired', TIMEOUT_NO_SRC_NO_DST: 'expired',
  SessionNotFoundError: 'gone', BadRouteError: 'gone', AlreadyConnectedError: 'used', StreamStartedError: 'used',
  StreamSourceError: 'source', SRC_DISCONNECTED: 'source', SRC_ERROR: 'source',
  StreamDestinationError: 'destination', DST_DISCONNECTED: 'destination', DST_ERROR: 'destination',
  CancelledError: 'cancelled', DeclinedError: 'cancelled', Error: 'cancelled', CLIENT_ERROR: 'cancelled',
  TooManyStreamsError: 'busy', RateLimitError: 'busy', BodyTooLargeError: 'large', ServerStoppingError: 'stopping',
};

// By the status of an answer that is not one of the rendezvous' own: a proxy's, which finds no relay, or the engine's.
const STATUSES = { 404: 'gone', 413: 'large', 429: 'busy', 502: 'stopping', 503: 'stopping', 504: 'stopping' };

const cause = (name, status) => (Object.hasOwn(CAUSES, name) ? CAUSES[name] : STATUSES[status] ?? 'other');

// The name of the error that is told in an answer's body.
function named(text) {
  try { return String(JSON.parse(text).name); } catch { return ''; }
}

function fail(its, why, more = '') {
  if (its !== job) return;
  const words = TROUBLE[why][its.role] ?? TROUBLE.other[its.role];
  finish(false, words[0], `${words[1]} ${more}`, its.role === 'sender');
}

function finish(good, title, text, again = false) {
  const { again: repeat, role } = stop() ?? {};
  // Of SVG: they have no property of that name.
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

// An answer that is an error: why, and what else there is to say.
async function problem(answer) {
  const why = cause(named(await answer.text().catch(() => '')), answer.status);
  const after = Number(answer.headers.get('Retry-After'));
  return [why, why === 'busy' ? `Try again ${after > 0 ? `in ${span(after)}` : 'in a moment'}.` : ''];
}
