// ---- Jobs

function begin(its) {
  stop();
  job = its;
  if (location.hash && its.role === 'sender') history.replaceState(null, '', location.pathname);
  // A phone that goes to sleep loses the connection. Not every browser can keep it awake.
  navigator.wakeLock?.request('screen').then((lock) => (its === job ? (its.lock = lock) : lock.release())).catch(() => {});
  return its;
}

function stop() {
  const its = job;
  job = null;
  if (!its) return null;
  clearInterval(its.clock);
  its.lock?.release().catch(() => {});
  its.abort?.abort();
  its.hold?.abort();
  if (its.xhr) { its.xhr.onload = its.xhr.onerror = null; its.xhr.abort(); }
  if (its.picture) { $('qr').hidden = true; $('qr').removeAttribute('src'); URL.revokeObjectURL(its.picture); }
  return its;
}

const url = (id) => `${STREAM}/${id}`;
const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));

// Sends an error to the other side, so that it need not wait for a timeout.
const sendError = (id, name, message) => fetch(`${url(id)}/error`, {
  method: 'POST', keepalive: true, headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ http_status: 410, name, message }),
}).catch(() => {});

async function status(id) {
  const signal = AbortSignal.timeout?.(STATUS_TIMEOUT);
  const response = await fetch(`${url(id)}/status`, { cache: 'no-store', signal });
  if (response.status === 404) return null;
  if (!response.ok) throw new Error(response.statusText);
  return response.json();
}

// Returns the cause of a failed request, as far as the stream's state shows it.
async function reason(its, otherwise) {
  try {
    const now = await status(its.id);
    if (!now) return 'gone';
    return now.active || now.state === 'FINISHED' ? otherwise(now) : cause(now.state);
  } catch {
    return its.moved ? 'stopped' : 'unreachable';
  }
}

// Polls the status until the job ends.
async function watch(its, onStatus) {
  for (let missed = 0; its === job; await pause(its.begun ? 400 : 1200)) {
    let now;
    try {
      now = await status(its.id);
      missed = 0;
    } catch (error) {
      missed += 1;
      // Several pages that wait can have all of the few connections (6) that a browser opens to one server.
      if (error.name === 'TimeoutError') its.hold?.abort();
      if (missed > 20) fail(its, 'unreachable');
      continue;
    }
    if (its === job) onStatus(now);
  }
}

function moving(its, title, hint) {
  if (!its.begun) {
    its.begun = performance.now();
    its.marks = [];
    $('transfer-title').textContent = title;
    $('transfer-name').textContent = its.name;
    $('transfer-hint').textContent = hint;
    $('transfer-cancel').hidden = its.role === 'receiver' && its.kind === 'file';
    $('bar').removeAttribute('value');
    $('amount').textContent = 'Connecting\u2026';
    $('rate').textContent = '';
    show('transfer');
  }
}

function progress(its, n) {
  const now = performance.now();
  its.moved = true;
  its.marks.push([now, n]);
  // The rate over the last 5 seconds.
  while (its.marks.length > 2 && now - its.marks[0][0] > 5000) its.marks.shift();
  const [[then, before]] = its.marks;
  const rate = now - then > 700 ? (n - before) / (now - then) * 1000 : 0;
  if (its.size > 0) {
    const share = Math.min(1, n / its.size);
    $('bar').value = share;
    $('amount').textContent = `${bytes(n)} of ${bytes(its.size)}`;
    document.title = `${Math.floor(share * 100)} % · Relay`;
  } else {
    $('amount').textContent = bytes(n);
  }
  const left = rate > 0 && its.size > n ? ` · ${span((its.size - n) / rate)} left` : '';
  $('rate').textContent = rate > 0 ? `${bytes(rate)}/s${left}` : '';
}
