// ---- Copying

async function copy(text) {
  // Browsers have a clipboard only for HTTPS pages.
  try { await navigator.clipboard.writeText(text); return true; } catch { /* fall back to execCommand */ }
  const box = document.createElement('textarea');
  box.value = text;
  box.className = 'away';
  document.body.append(box);
  box.select();
  const done = document.execCommand('copy');
  box.remove();
  return done;
}

for (const button of document.querySelectorAll('[data-copy]')) {
  const label = button.textContent;
  let timer;
  button.addEventListener('click', async () => {
    const from = $(button.dataset.copy);
    const done = await copy(from.value ?? from.textContent);
    button.textContent = done ? 'Copied' : 'Please copy it by hand';
    button.focus();
    clearTimeout(timer);
    timer = setTimeout(() => { button.textContent = label; }, 2000);
  });
}
if (!STREAM) $('without').open = true;

// ---- Choosing

function home() {
  stop();
  $('rejection').hidden = true;
  $('file').value = '';
  show('home');
}

function reject(message) {
  $('rejection').textContent = message;
  $('rejection').hidden = false;
}

function chosen(files, entry) {
  if ($('home').hidden) return;
  if (entry?.isDirectory) { reject('A folder cannot be sent: pack it into a ZIP file first.'); return; }
  if (files.length > 1) { reject('One file at a time: pack several into a ZIP file first.'); return; }
  if (files.length === 1) send(files[0], files[0].name, 'file');
}

if (STREAM) {
  const way = location.protocol === 'https:' ? 'with-https' : LOCAL ? 'without-network' : 'without-https';
  for (const id of ['with-https', 'without-https', 'without-network']) $(id).hidden = id !== way;
  $('local').hidden = !LOCAL;
  $('local-host').textContent = location.host;
  $('local-port').textContent = location.port || (location.protocol === 'https:' ? 443 : 80);
  // Not without the check: a description is read aloud even if it is hidden.
  if (LOCAL) for (const id of ['link', 'copy-link']) $(id).setAttribute('aria-describedby', 'local');
  $('file').addEventListener('change', (event) => chosen(event.target.files));
  $('words').addEventListener('input', () => { $('send-text').disabled = $('words').value === ''; });
  $('words').addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); $('write').requestSubmit(); }
  });
  $('write').addEventListener('submit', (event) => {
    event.preventDefault();
    const text = $('words').value;
    if (text === '') return;
    const blob = new Blob([text], { type: 'text/plain;charset=utf-8' });
    // A text that the receiver cannot show is sent as a file.
    send(blob, 'text.txt', blob.size > TEXT_SHOWN ? 'file' : 'text');
  });
  // On the whole page: a file dropped beside the box must not replace the page.
  let inside = 0;
  const files = (event) => event.dataTransfer?.types.includes('Files');
  addEventListener('dragenter', (event) => { if (files(event)) { inside += 1; $('drop').classList.add('over'); } });
  addEventListener('dragleave', (event) => {
    if (files(event) && (inside -= 1) <= 0) { inside = 0; $('drop').classList.remove('over'); }
  });
  addEventListener('dragover', (event) => { if (files(event)) event.preventDefault(); });
  addEventListener('drop', (event) => {
    if (!files(event)) return;
    event.preventDefault();
    inside = 0;
    $('drop').classList.remove('over');
    chosen(event.dataTransfer.files, event.dataTransfer.items[0]?.webkitGetAsEntry?.());
  });
  addEventListener('paste', (event) => {
    if (event.clipboardData?.files.length) { event.preventDefault(); chosen(event.clipboardData.files); }
  });
  for (const button of document.querySelectorAll('[data-home]')) {
    button.addEventListener('click', () => { history.replaceState(null, '', location.pathname); home(); });
  }
  for (const button of document.querySelectorAll('[data-cancel]')) {
    button.addEventListener('click', () => { cancel(); home(); });
  }
  // Leaving the page aborts the transfer.
  addEventListener('beforeunload', (event) => { if (job?.role === 'sender' || (job?.taken && job.kind === 'text')) event.preventDefault(); });
  // A browser may keep a closed page and its connections; the receiver must not wait for it.
  addEventListener('pagehide', () => { if (job?.role === 'sender') cancel(); });
  addEventListener('pageshow', (event) => { if (event.persisted && !job) route(); });
  addEventListener('hashchange', route);
  route();
}

function route() {
  const link = /^#(file|text)=([A-Za-z0-9_-]+)$/.exec(location.hash);
  // A transfer from this page has priority over a new link.
  if (job?.role === 'sender') return;
  if (link) receive(link[1], link[2]); else home();
}
