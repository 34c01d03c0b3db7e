/* Functions about text and about the library. */
#include "check.h"

int
main (void)
{
  char text[] = "a%20b%2fc%zz%4", nul[] = "x%00y";

  CHECK (MHD_http_unescape (text) == 10 && strcmp (text, "a b/c%zz%4") == 0);
  CHECK (MHD_http_unescape (nul) == 3 && memcmp (nul, "x\0y", 4) == 0);
  CHECK (MHD_http_unescape (NULL) == 0);
  CHECK (strcmp (MHD_get_reason_phrase_for (404), "Not Found") == 0 && MHD_get_reason_phrase_len_for (404) == 9);
  CHECK (strcmp (MHD_get_reason_phrase_for (99), "Unknown") == 0 && MHD_get_reason_phrase_len_for (99) == 0);
  CHECK (strcmp (MHD_get_reason_phrase_for (777), "Unknown") == 0);
  CHECK (strcmp (MHD_get_version (), "1.0.1") == 0 && MHD_get_version_bin () == MHD_VERSION);
  CHECK (MHD_is_feature_supported (MHD_FEATURE_MESSAGES) == MHD_YES);
  CHECK (MHD_is_feature_supported (MHD_FEATURE_TLS) == MHD_YES);
  CHECK (MHD_is_feature_supported (0) == MHD_NO);
  CHECK (MHD_is_feature_supported ((enum MHD_FEATURE) -5) == MHD_NO);
  MHD_free (NULL);
  MHD_free (malloc (3));
  MHD_set_panic_func (NULL, NULL);
  return 0;
}
