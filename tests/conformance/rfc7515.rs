use countersign_engine::{Algorithm, Reject};

use crate::example::{assert_genuine, verify};

/// Claims of appendices A.1 to A.3 and A.6, including line breaks.
const JOE: &str =
    "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
const JOE_ENCODED: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

const SECRET_KEY: &str = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
const P_256_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const P_521_KEY: &str = r#"{"kty":"EC","crv":"P-521","x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}"#;
const RSA_KEY: &str = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;

const A_2_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9\
    uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB\
    _eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rq\
    Vt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const A_3_SIGNATURE: &str =
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

#[test]
fn a_1_hs256() {
    let token = format!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE_ENCODED}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
    assert_genuine(SECRET_KEY, Algorithm::Hs256, &token, JOE);
}

#[test]
fn a_2_rs256() {
    assert_genuine(
        RSA_KEY,
        Algorithm::Rs256,
        &format!("eyJhbGciOiJSUzI1NiJ9.{JOE_ENCODED}.{A_2_SIGNATURE}"),
        JOE,
    );
}

#[test]
fn a_3_es256() {
    assert_genuine(
        P_256_KEY,
        Algorithm::Es256,
        &format!("eyJhbGciOiJFUzI1NiJ9.{JOE_ENCODED}.{A_3_SIGNATURE}"),
        JOE,
    );
}

#[test]
fn a_4_es512() {
    let token = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2\
        SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXo\
        lLzeO_Jn";
    assert_genuine(P_521_KEY, Algorithm::Es512, token, "Payload");
}

#[test]
fn a_5_unsecured_token_is_refused() {
    let token = format!("eyJhbGciOiJub25lIn0.{JOE_ENCODED}.");
    for (jwk, algorithm) in
        [(SECRET_KEY, Algorithm::Hs256), (RSA_KEY, Algorithm::Rs256), (P_256_KEY, Algorithm::Es256)]
    {
        assert_eq!(
            verify(jwk, algorithm, &token),
            Err(Reject::AlgorithmUnsupported),
            "{algorithm}"
        );
    }
}

#[test]
fn a_6_general_json_serialization_is_refused() {
    let json = format!(
        r#"{{"payload":"{JOE_ENCODED}","signatures":[
            {{"protected":"eyJhbGciOiJSUzI1NiJ9","header":{{"kid":"2010-12-29"}},"signature":"{A_2_SIGNATURE}"}},
            {{"protected":"eyJhbGciOiJFUzI1NiJ9","header":{{"kid":"e9bc097a-ce51-4036-9562-d2ade882db0d"}},"signature":"{A_3_SIGNATURE}"}}]}}"#
    );
    assert_eq!(verify(RSA_KEY, Algorithm::Rs256, &json), Err(Reject::Segments));
    assert_eq!(verify(P_256_KEY, Algorithm::Es256, &json), Err(Reject::Segments));
}

#[test]
fn a_7_flattened_json_serialization_is_refused() {
    let json = format!(
        r#"{{"payload":"{JOE_ENCODED}","protected":"eyJhbGciOiJFUzI1NiJ9","header":{{"kid":"e9bc097a-ce51-4036-9562-d2ade882db0d"}},"signature":"{A_3_SIGNATURE}"}}"#
    );
    assert_eq!(verify(P_256_KEY, Algorithm::Es256, &json), Err(Reject::Segments));
}

#[test]
fn appendix_e_critical_extension_is_refused() {
    let token = "eyJhbGciOiJub25lIiwNCiAiY3JpdCI6WyJodHRwOi8vZXhhbXBsZS5jb20vVU5ERUZJTkVEIl0sDQog\
        Imh0dHA6Ly9leGFtcGxlLmNvbS9VTkRFRklORUQiOnRydWUNCn0.RkFJTA.";
    assert_eq!(verify(SECRET_KEY, Algorithm::Hs256, token), Err(Reject::Critical));
}
