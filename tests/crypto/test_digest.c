/* SPDX-License-Identifier: Apache-2.0 */
/* Digests and HMAC against the vectors of FIPS 180 and RFC 4231. */
#include "crypto/fixture.h"

#include "base/codec.h"
#include "crypto/crypto_priv.h"

static void hex_is(const void *p, size_t n, const char *want)
{
    char hex[2 * KEI_HASH_MAX + 1];
    kei_hex_encode(hex, p, n);
    assert_string_equal(hex, want);
}

static void test_sha(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sha1, *sha256;
    } cases[] = {
        {"", "da39a3ee5e6b4b0d3255bfef95601890afd80709",
         "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "a9993e364706816aba3e25717850c26c9cd0d89d",
         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        /* RFC 6455, section 1.3 */
        {"dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
         "b37a4f2cc0624f1690f64606cf385945b2bec4ea", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t out[32];
        kei_sha1(cases[i].text, strlen(cases[i].text), out);
        hex_is(out, 20, cases[i].sha1);
        kei_sha256(cases[i].text, strlen(cases[i].text), out);
        if (cases[i].sha256)
            hex_is(out, 32, cases[i].sha256);
    }
}

/* RFC 4231: cases 1, 2, 6 (key longer than a block) and 7 (key and data longer) */
static void test_hmac(void **state)
{
    (void)state;
    char k20[20], k131[131];
    memset(k20, 0x0b, sizeof k20);
    memset(k131, 0xaa, sizeof k131);
    const struct {
        struct ke_str key;
        const char *text, *want[3];
    } cases[] = {
        {{k20, 20},
         "Hi There",
         {"b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
          "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152"
          "e8b2fa9cb6",
          "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b27"
          "4eaea3f4e4be9d914eeb61f1702e696c203a126854"}},
        {{"Jefe", 4},
         "what do ya want for nothing?",
         {"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
          "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239"
          "ecfab21649",
          "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f"
          "65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"}},
        {{k131, 131},
         "Test Using Larger Than Block-Size Key - Hash Key First",
         {"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
          "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248d"
          "f163f44952",
          "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2"
          "215d6a1e5295e64f73f63f0aec8b915a985d786598"}},
        {{k131, 131},
         "This is a test using a larger than block-size key and a larger than block-size data. The "
         "key needs to be hashed before being used by the HMAC algorithm.",
         {"9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
          "6617178e941f020d351e2f254e8fd32c602420feb0b8fb9adccebb82461e99c5a678cc31e799176d3860e6"
          "110c46523e",
          "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944b6022cac3c4982b10d5eeb"
          "55c3e4de15134676fb6de0446065c97440fa8c6a58"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int h = 0; h < 3; h++) {
            uint8_t out[KEI_HASH_MAX];
            kei_hmac((enum kei_hash)h, cases[i].key, kei_str(cases[i].text), out);
            hex_is(out, kei_hash_len((enum kei_hash)h), cases[i].want[h]);
        }
    }
    uint8_t out[32];
    assert_int_equal(kei_hmac_sha256("Jefe", 4, cases[1].text, strlen(cases[1].text), out), 0);
    hex_is(out, 32, cases[1].want[0]);
}

static void test_equal(void **state)
{
    (void)state;
    assert_true(kei_equal_ct("abcd", "abcd", 4));
    assert_true(kei_equal_ct("abcd", "abce", 3));
    assert_false(kei_equal_ct("abcd", "abce", 4));
    assert_false(kei_equal_ct("xbcd", "abcd", 4));
    assert_true(kei_equal_ct(NULL, NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha),
        cmocka_unit_test(test_hmac),
        cmocka_unit_test(test_equal),
    };
    return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
