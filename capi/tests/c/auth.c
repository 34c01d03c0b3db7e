/* Basic authentication, what digest credentials say, vectors of the hashes, and wrong use. */
#include "credentials.h"

HANDLER (basic)
{
  char *password = (char *) "unchanged", *name;
  struct MHD_BasicAuthInfo *info = MHD_basic_auth_get_username_password3 (connection);
  /* The same for all requests. */
  struct MHD_Response *denied = cls;
  enum MHD_Result result;

  UNUSED;
  name = MHD_basic_auth_get_username_password (connection, &password);
  if (name != NULL) {
    CHECK (strlen (name) == info->username_len && strcmp (name, info->username) == 0);
    CHECK (strlen (password) == info->password_len && strcmp (password, info->password) == 0);
    /* The password is not asked for. */
    free (MHD_basic_auth_get_username_password (connection, NULL));
  } else
    CHECK (password == NULL && (info == NULL || (info->password == NULL && info->password_len == 0)));
  if (name != NULL && strcmp (name, USER) == 0 && strcmp (password, PASSWORD) == 0)
    result = respond (connection, 200, name);
  else if (strcmp (url, "/older") == 0)
    result = MHD_queue_basic_auth_fail_response (connection, REALM, denied);
  else if (strcmp (url, "/bad") == 0) {
    CHECK (MHD_queue_basic_auth_required_response3 (connection, "a\nb", MHD_YES, denied) == MHD_NO);
    CHECK (MHD_queue_basic_auth_required_response3 (connection, NULL, MHD_YES, denied) == MHD_NO);
    CHECK (MHD_queue_basic_auth_fail_response (connection, REALM, NULL) == MHD_NO);
    result = respond (connection, 200, info ? info->username : "no name");
  } else
    result = MHD_queue_basic_auth_required_response3 (connection, REALM, MHD_YES, denied);
  MHD_free (name);
  MHD_free (password);
  MHD_free (info);
  return result;
}

static void
test_basic (void)
{
  struct MHD_Response *denied = text ("denied");
  struct MHD_Daemon *daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, basic, denied, MHD_OPTION_END);
  uint16_t port = port_of (daemon);
  char *response;

  /* printf 'Jäsøn Doe:Secret, or not?' | base64 */
#define GOOD "Authorization: Basic SsOkc8O4biBEb2U6U2VjcmV0LCBvciBub3Q/\r\n"
  EXPECT (ask (port, "GET / HTTP/1.1\r\n" GOOD END), 200, USER);
  for (int i = 0; i < 3; i++) {
    /* The same response each time: one challenge. */
    response = ask (port, i == 1 ? GET ("/older") : GET ("/"));
    CHECK (count (response, "WWW-Authenticate: ") == 1);
    CHECK (count (response, "WWW-Authenticate: Basic realm=\"a \\\"realm\\\"\"") == 1);
    CHECK (count (response, ", charset=\"UTF-8\"\r\n") == (i != 1));
    EXPECT (response, 401, "denied");
  }
  EXPECT (ask (port, "GET / HTTP/1.1\r\nAuthorization: Basic QTpC\r\n" END), 401, "denied");
  EXPECT (ask (port, "GET / HTTP/1.1\r\nAuthorization: Basic =\r\n" END), 401, "denied");
  /* Twice. */
  EXPECT (ask (port, "GET / HTTP/1.1\r\n" GOOD GOOD END), 401, "denied");
  EXPECT (ask (port, GET ("/bad")), 200, "no name");
  /* "name", without a colon. */
  EXPECT (ask (port, "GET /bad HTTP/1.1\r\nAuthorization: basic bmFtZQ==\r\n" END), 200, "name");
  MHD_stop_daemon (daemon);
  MHD_destroy_response (denied);
}

/* What the credentials say; the response has it. */
HANDLER (info)
{
  struct MHD_DigestAuthInfo *all = MHD_digest_auth_get_request_info3 (connection);
  struct MHD_DigestAuthUsernameInfo *user = MHD_digest_auth_get_username3 (connection);
  char *name = MHD_digest_auth_get_username (connection), line[1000];
  enum MHD_Result result;

  UNUSED;
  if (all == NULL) {
    CHECK (user == NULL && name == NULL);
    return respond (connection, 200, "none");
  }
  if (user != NULL) {
    CHECK (user->algo3 == all->algo3 && user->uname_type == all->uname_type);
    CHECK (user->username_len == all->username_len);
    CHECK ((user->username == NULL) == (all->username == NULL) && (name == NULL) == (all->username == NULL));
    CHECK (name == NULL || (strcmp (name, user->username) == 0 && strcmp (name, all->username) == 0));
    CHECK (user->userhash_hex_len == all->userhash_hex_len);
    CHECK (user->userhash_hex == NULL
           || memcmp (user->userhash_bin, all->userhash_bin, user->userhash_hex_len / 2) == 0);
  } else
    CHECK (all->uname_type <= MHD_DIGEST_AUTH_UNAME_TYPE_INVALID && name == NULL);
  CHECK ((all->username == NULL ? 0 : strlen (all->username)) == all->username_len);
  CHECK ((all->opaque == NULL ? 0 : strlen (all->opaque)) == all->opaque_len);
  CHECK ((all->realm == NULL ? 0 : strlen (all->realm)) == all->realm_len);
  snprintf (line, sizeof (line), "%d %d %s %s/%02x %s %s %d %d %u", all->algo3, all->uname_type,
            all->username ? all->username : "-", all->userhash_hex ? all->userhash_hex : "-",
            all->userhash_bin ? all->userhash_bin[0] : 0, all->opaque ? all->opaque : "-",
            all->realm ? all->realm : "-",
            all->qop, (int) all->cnonce_len, (unsigned) all->nc);
  result = respond (connection, 200, line);
  MHD_free (all);
  MHD_free (user);
  MHD_free (name);
  return result;
}

static void
test_info (void)
{
  static const struct {
    const char *field, *expected;
  } rows[] = {
    { "", "none" },
    { "Authorization: Basic QTpC\r\n", "none" },
    { "Authorization: Digest\r\n", "none" },
    { "Authorization: Digest realm=a realm=b\r\n", "none" },
    { "Authorization: Digest realm=a\r\n", "65 0 - -/00 - a 1 0 0" },
    { "Authorization: Digest username=\"a \\\"b\\\"\", opaque=\"\", qop=auth, nc=0000001f, cnonce=\"xy\\\"\"\r\n",
      "65 4 a \"b\" -/00  - 2 4 31" },
    { "Authorization: Digest username*=UTF-8''a%20b, algorithm=SHA-256-sess, qop=auth-int\r\n",
      "130 8 a b -/00 - - 4 0 0" },
    { "Authorization: Digest username=aBcd, userhash=true, algorithm=SHA-512-256, qop=x\r\n",
      "68 2 - aBcd/ab - - 0 0 0" },
    { "Authorization: Digest username=abc, userhash=true, algorithm=x, nc=x\r\n", "0 1 - -/00 - - 1 0 0" },
  };
  struct MHD_Daemon *daemon = MHD_start_daemon (THREAD, 0, NULL, NULL, info, NULL, MHD_OPTION_END);

  for (size_t i = 0; i < sizeof (rows) / sizeof (rows[0]); i++)
    EXPECT (ask_with (port_of (daemon), "GET", "/", rows[i].field), 200, rows[i].expected);
  MHD_stop_daemon (daemon);
}

static void
test_vectors (void)
{
  static const uint8_t md5[] = { 0x93, 0x9e, 0x75, 0x78, 0xed, 0x9e, 0x3c, 0x51,
                                 0x8a, 0x45, 0x2a, 0xce, 0xe7, 0x63, 0xbc, 0xe9 };
  uint8_t out[32];
  char hex[65];

  CHECK (MHD_digest_get_hash_size (MHD_DIGEST_AUTH_ALGO3_MD5) == 16);
  CHECK (MHD_digest_get_hash_size (MHD_DIGEST_AUTH_ALGO3_SHA256) == 32);
  CHECK (MHD_digest_get_hash_size (MHD_DIGEST_AUTH_ALGO3_SHA512_256_SESSION) == 32);
  CHECK (MHD_digest_get_hash_size (MHD_DIGEST_AUTH_ALGO3_INVALID) == 0);
  CHECK (MHD_digest_get_hash_size ((enum MHD_DigestAuthAlgo3) -1) == 0);
  /* RFC 2617, 3.5. */
  CHECK (MHD_digest_auth_calc_userdigest (MHD_DIGEST_AUTH_ALGO3_MD5, "Mufasa", "testrealm@host.com", "Circle Of Life",
                                          out, 16) == MHD_YES);
  CHECK (memcmp (out, md5, 16) == 0);
  CHECK (MHD_digest_auth_calc_userdigest (MHD_DIGEST_AUTH_ALGO3_MD5, "a", "b", "c", out, 15) == MHD_NO);
  CHECK (MHD_digest_auth_calc_userdigest (MHD_DIGEST_AUTH_ALGO3_INVALID, "a", "b", "c", out, 32) == MHD_NO);
  CHECK (MHD_digest_auth_calc_userdigest (MHD_DIGEST_AUTH_ALGO3_MD5, "a", "b", NULL, out, 32) == MHD_NO);
  CHECK (MHD_digest_auth_calc_userdigest (MHD_DIGEST_AUTH_ALGO3_MD5, "a", "b", "c", NULL, 32) == MHD_NO);
  /* RFC 7616, 3.9.2, by its erratum 4897. */
  CHECK (MHD_digest_auth_calc_userhash_hex (MHD_DIGEST_AUTH_ALGO3_SHA512_256, USER, "api@example.org", hex, 65)
         == MHD_YES);
  CHECK (strcmp (hex, "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b") == 0);
  CHECK (MHD_digest_auth_calc_userhash (MHD_DIGEST_AUTH_ALGO3_SHA512_256, USER, "api@example.org", out, 32) == MHD_YES);
  CHECK (out[0] == 0x79 && out[31] == 0x0b);
  CHECK (MHD_digest_auth_calc_userhash (MHD_DIGEST_AUTH_ALGO3_SHA256, "a", "b", out, 31) == MHD_NO);
  CHECK (MHD_digest_auth_calc_userhash (MHD_DIGEST_AUTH_ALGO3_SHA256, NULL, "b", out, 32) == MHD_NO);
  CHECK (MHD_digest_auth_calc_userhash_hex (MHD_DIGEST_AUTH_ALGO3_SHA256, "a", "b", hex, 64) == MHD_NO);
  CHECK (MHD_digest_auth_calc_userhash_hex (MHD_DIGEST_AUTH_ALGO3_MD5, "a", NULL, hex, 33) == MHD_NO);
}

/* Wrong use, in a request. */
HANDLER (wrong)
{
  struct MHD_Response *response = text ("x");
  uint8_t digest[32] = { 0 };
  const enum MHD_DigestAuthMultiQOP qop = MHD_DIGEST_AUTH_MULT_QOP_AUTH;
  const enum MHD_DigestAuthMultiAlgo3 md5 = MHD_DIGEST_AUTH_MULT_ALGO3_MD5, any = MHD_DIGEST_AUTH_MULT_ALGO3_ANY;

  UNUSED;
  CHECK (MHD_digest_auth_check3 (connection, NULL, "a", "b", 0, 0, qop, md5) == MHD_DAUTH_ERROR);
  CHECK (MHD_digest_auth_check3 (connection, "r", NULL, "b", 0, 0, qop, md5) == MHD_DAUTH_ERROR);
  CHECK (MHD_digest_auth_check3 (connection, "r", "a", NULL, 0, 0, qop, md5) == MHD_DAUTH_ERROR);
  CHECK (MHD_digest_auth_check3 (connection, "r", "a", "b", 0, 0, MHD_DIGEST_AUTH_MULT_QOP_AUTH_INT, md5)
         == MHD_DAUTH_WRONG_QOP);
  CHECK (MHD_digest_auth_check3 (connection, "r", "a", "b", 0, 0, qop, MHD_DIGEST_AUTH_MULT_ALGO3_ANY_SESSION)
         == MHD_DAUTH_WRONG_ALGO);
  CHECK (MHD_digest_auth_check3 (connection, "r", "a", "b", 0, 0, qop, md5) == MHD_DAUTH_WRONG_HEADER);
  CHECK (MHD_digest_auth_check_digest3 (connection, "r", "a", NULL, 16, 0, 0, qop, md5) == MHD_DAUTH_ERROR);
  CHECK (MHD_digest_auth_check_digest3 (connection, "r", "a", digest, 15, 0, 0, qop, md5) == MHD_DAUTH_ERROR);
  CHECK (MHD_digest_auth_check_digest3 (connection, "r", "a", digest, 32, 0, 0, qop, any) == MHD_DAUTH_ERROR);
  CHECK (MHD_digest_auth_check_digest3 (connection, "r", "a", digest, 16, 0, 0, qop, md5) == MHD_DAUTH_WRONG_HEADER);
  CHECK (MHD_digest_auth_check2 (connection, "r", "a", "b", 0, (enum MHD_DigestAuthAlgorithm) 9) == MHD_NO);
  CHECK (MHD_digest_auth_check_digest2 (connection, "r", "a", digest, 15, 0, MHD_DIGEST_ALG_MD5) == MHD_NO);
  CHECK (MHD_digest_auth_check_digest2 (connection, "r", "a", digest, 16, 0, (enum MHD_DigestAuthAlgorithm) 9)
         == MHD_NO);
  CHECK (MHD_queue_auth_required_response3 (connection, NULL, "o", NULL, response, 0, qop, md5, 0, 0) == MHD_NO);
  CHECK (MHD_queue_auth_required_response3 (connection, "r", "o", NULL, NULL, 0, qop, md5, 0, 0) == MHD_NO);
  CHECK (MHD_queue_auth_required_response3 (connection, "r", "o", NULL, response, 0, MHD_DIGEST_AUTH_MULT_QOP_INVALID,
                                            md5, 0, 0) == MHD_NO);
  CHECK (MHD_queue_auth_required_response3 (connection, "r", "o", NULL, response, 0, qop,
                                            MHD_DIGEST_AUTH_MULT_ALGO3_INVALID, 0, 0) == MHD_NO);
  CHECK (MHD_queue_auth_required_response3 (connection, "r", "o\r\nx: y", NULL, response, 0, qop, md5, 0, 0) == MHD_NO);
  CHECK (MHD_queue_auth_fail_response2 (connection, "r", "o", response, 0, (enum MHD_DigestAuthAlgorithm) 9) == MHD_NO);
  CHECK (MHD_queue_auth_fail_response (connection, "r", "o", NULL, 0) == MHD_NO);
  CHECK (MHD_get_response_headers (response, NULL, NULL) == 0);
  /* One is queued; a second one is not. */
  CHECK (MHD_queue_auth_fail_response (connection, "r", NULL, response, MHD_YES) == MHD_YES);
  CHECK (MHD_queue_auth_fail_response (connection, "r", NULL, response, MHD_YES) == MHD_NO);
  MHD_destroy_response (response);
  return MHD_YES;
}

static void
test_wrong_use (void)
{
  struct MHD_Daemon *daemon =
    MHD_start_daemon (MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, wrong, NULL, MHD_OPTION_END);
  struct MHD_Response *response = text ("x");
  char *password = (char *) "unchanged", *got;
  uint8_t digest[16] = { 0 };

  got = ask (port_of (daemon), GET ("/"));
  CHECK (count (got, "WWW-Authenticate: Digest realm=\"r\"") == 1 && count (got, "stale=true") == 1);
  EXPECT (got, 401, "x");
  MHD_stop_daemon (daemon);

  CHECK (MHD_basic_auth_get_username_password3 (NULL) == NULL);
  CHECK (MHD_basic_auth_get_username_password (NULL, &password) == NULL && password == NULL);
  CHECK (MHD_basic_auth_get_username_password (NULL, NULL) == NULL);
  CHECK (MHD_queue_basic_auth_fail_response (NULL, "r", response) == MHD_NO);
  CHECK (MHD_queue_basic_auth_required_response3 (NULL, "r", 1, response) == MHD_NO);
  CHECK (MHD_digest_auth_get_request_info3 (NULL) == NULL && MHD_digest_auth_get_username3 (NULL) == NULL);
  CHECK (MHD_digest_auth_get_username (NULL) == NULL);
  CHECK (MHD_digest_auth_check (NULL, "r", "a", "b", 0) == MHD_NO);
  CHECK (MHD_digest_auth_check_digest (NULL, "r", "a", digest, 0) == MHD_NO);
  CHECK (MHD_queue_auth_fail_response (NULL, "r", "o", response, 0) == MHD_NO);
  MHD_destroy_response (response);
  CHECK (MHD_is_feature_supported (MHD_FEATURE_BASIC_AUTH) && MHD_is_feature_supported (MHD_FEATURE_DIGEST_AUTH));
  CHECK (MHD_is_feature_supported (MHD_FEATURE_DIGEST_AUTH_RFC2069));
  CHECK (MHD_is_feature_supported (MHD_FEATURE_DIGEST_AUTH_SHA512_256));
  CHECK (MHD_is_feature_supported (MHD_FEATURE_DIGEST_AUTH_USERHASH));
  CHECK (MHD_is_feature_supported (MHD_FEATURE_DIGEST_AUTH_AUTH_INT) == MHD_NO);
  CHECK (MHD_is_feature_supported (MHD_FEATURE_DIGEST_AUTH_ALGO_SESSION) == MHD_NO);
}

int
main (void)
{
  test_vectors ();
  test_basic ();
  test_info ();
  test_wrong_use ();
  return 0;
}
