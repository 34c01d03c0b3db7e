/* What the tests of authentication share: a user, and a client for digests, which computes with the library's own
 * functions. */
#include "check.h"

#define REALM "a \"realm\""
#define USER "J\303\244s\303\270n Doe"
#define PASSWORD "Secret, or not?"

static inline struct MHD_Response *
text (const char *body)
{
  struct MHD_Response *response = MHD_create_response_from_buffer_copy (strlen (body), body);

  CHECK (response != NULL);
  return response;
}

/* Counts how often a text occurs. */
static inline int
count (const char *in, const char *what)
{
  int n = 0;

  for (; (in = strstr (in, what)) != NULL; in += strlen (what))
    n++;
  return n;
}

/* Hashes "a:b" by the function for user hashes. */
static inline char *
hash (enum MHD_DigestAuthAlgo3 algo, const char *a, const char *b)
{
  char *hex = malloc (65);

  CHECK (MHD_digest_auth_calc_userhash_hex (algo, a, b, hex, 65) == MHD_YES);
  return hex;
}

/* Copies a parameter out of a challenge; "" if it has none. */
static inline char *
parameter (const char *response, const char *name)
{
  static char value[4][200];
  static int next;
  const char *at = strstr (response, name);
  size_t len;

  next = (next + 1) % 4;
  value[next][0] = '\0';
  if (at == NULL)
    return value[next];
  at += strlen (name);
  len = *at == '"' ? strcspn (++at, "\"") : strcspn (at, ",\r");
  memcpy (value[next], at, len);
  value[next][len] = '\0';
  return value[next];
}

struct client {
  enum MHD_DigestAuthAlgo3 algo;
  const char *name, *realm, *password, *method, *uri, *nonce, *nc, *cnonce, *qop;
  /* Sent in place of `name`. */
  const char *user;
};

static inline const char *
name_of (enum MHD_DigestAuthAlgo3 algo)
{
  return algo == MHD_DIGEST_AUTH_ALGO3_MD5 ? "MD5" : algo == MHD_DIGEST_AUTH_ALGO3_SHA256 ? "SHA-256" : "SHA-512-256";
}

/* Makes the Authorization field. */
static inline char *
field_of (const struct client *it)
{
  uint8_t digest[32];
  char a1[65], rest[1000], *a2 = hash (it->algo, it->method, it->uri), *answer, *field = malloc (2000);
  size_t size = MHD_digest_get_hash_size (it->algo);
  char protection[300] = "";

  CHECK (MHD_digest_auth_calc_userdigest (it->algo, it->name, it->realm, it->password, digest, size) == MHD_YES);
  for (size_t i = 0; i < size; i++)
    sprintf (a1 + 2 * i, "%02x", digest[i]);
  if (it->qop != NULL) {
    snprintf (rest, sizeof (rest), "%s:%s:%s:%s:%s", it->nonce, it->nc, it->cnonce, it->qop, a2);
    snprintf (protection, sizeof (protection), ", qop=%s, nc=%s, cnonce=\"%s\"", it->qop, it->nc, it->cnonce);
  } else
    snprintf (rest, sizeof (rest), "%s:%s", it->nonce, a2);
  answer = hash (it->algo, a1, rest);
  snprintf (field, 2000, "Authorization: Digest %s, realm=\"a \\\"realm\\\"\", nonce=\"%s\", uri=\"%s\", algorithm=%s,"
            " response=\"%s\", opaque=\"o\\\"p\"%s\r\n",
            it->user, it->nonce, it->uri, name_of (it->algo), answer, protection);
  free (a2);
  free (answer);
  return field;
}

/* Sends a request with a field, and returns the response. */
static inline char *
ask_with (uint16_t port, const char *method, const char *target, const char *field)
{
  char request[4000];

  snprintf (request, sizeof (request), "%s %s HTTP/1.1\r\n%s%s" END "%s", method, target, field,
            *method == 'P' ? "Content-Length: 4\r\n" : "", *method == 'P' ? "body" : "");
  return ask (port, request);
}

