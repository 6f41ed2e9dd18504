use super::*;
use crate::foreign::tests::call;
use rustls_pki_types::pem::{PemObject, SectionKind};

macro_rules! key {
    ($name:literal) => {
        include_bytes!(concat!("keys/", $name)).as_slice()
    };
}

const TEXT: &[u8] = b"hello";

fn der(pem: &[u8]) -> Vec<u8> {
    let (_, der) = <(SectionKind, Vec<u8>)>::from_pem_slice(pem).unwrap();
    der
}

fn message(fields: &[(u32, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    for (number, bytes) in fields {
        put_bytes(*number, bytes, &mut message);
    }
    message
}

/// Signs with a key in PEM or DER.
fn sign(hash: &str, der: &[u8], pem: &[u8]) -> Result<Vec<u8>, Status> {
    let arguments = message(&[(1, hash.as_bytes()), (2, der), (3, TEXT), (4, pem)]);
    call("sign", &arguments)
}

fn verify(hash: &str, pem: &[u8], signature: &[u8]) -> Vec<u8> {
    let arguments = message(&[(1, hash.as_bytes()), (3, signature), (4, TEXT), (5, pem)]);
    call("verify_signature", &arguments).unwrap()
}

/// What a result says when it went well, and the signature if there is one.
fn good(signature: Option<&[u8]>) -> Vec<u8> {
    let mut result = vec![8, 1];
    result.extend(signature.map(|bytes| message(&[(2, bytes)])).unwrap_or_default());
    result
}

const VALID: [u8; 2] = [8, 1];

#[test]
fn openssls_signatures_are_good() {
    for (hash, signature) in [
        ("sha1", key!("rsa.sha1.signature")),
        ("sha256", key!("rsa.sha256.signature")),
        ("SHA384", key!("rsa.sha384.signature")),
        ("sha512", key!("rsa.sha512.signature")),
    ] {
        assert_eq!(verify(hash, key!("rsa.public.pem"), signature), VALID, "{hash}");
    }
    for (hash, signature) in [
        ("sha256", key!("elliptic.sha256.signature")),
        ("sha384", key!("elliptic.sha384.signature")),
    ] {
        assert_eq!(verify(hash, key!("elliptic.public.pem"), signature), VALID, "{hash}");
    }
}

#[test]
fn rsa_signatures_are_openssls_in_every_form_of_key() {
    let (pkcs8, pkcs1) = (key!("rsa.pkcs8.pem"), key!("rsa.pkcs1.pem"));
    let signature = key!("rsa.sha256.signature");
    for (der, pem) in [(&der(pkcs8)[..], &b""[..]), (b"", pkcs8), (b"", pkcs1)] {
        assert_eq!(sign("sha256", der, pem).unwrap(), good(Some(signature)));
    }
    for (hash, signature) in
        [("sha384", key!("rsa.sha384.signature")), ("sha512", key!("rsa.sha512.signature"))]
    {
        assert_eq!(sign(hash, b"", pkcs8).unwrap(), good(Some(signature)), "{hash}");
    }
}

#[test]
fn elliptic_signatures_are_good() {
    let signature = |hash, der: &[u8], pem: &[u8]| {
        let result = sign(hash, der, pem).unwrap();
        let fields: Vec<_> = Fields::new(&result).map(Result::unwrap).collect();
        match fields[..] {
            [(1, Wire::Varint(1)), (2, Wire::Bytes(signature))] => signature.to_vec(),
            _ => panic!("{fields:?}"),
        }
    };
    let (pkcs8, public) = (key!("elliptic.pkcs8.pem"), key!("elliptic.public.pem"));
    for (der, pem) in [(&der(pkcs8)[..], &b""[..]), (b"", pkcs8), (b"", key!("elliptic.sec1.pem"))]
    {
        assert_eq!(verify("sha256", public, &signature("sha256", der, pem)), VALID);
    }
    let larger = signature("sha384", b"", key!("elliptic384.pkcs8.pem"));
    assert_eq!(verify("sha384", key!("elliptic384.public.pem"), &larger), VALID);
}

#[test]
fn what_is_wrong_is_said_in_envoys_words() {
    let says = |found: Vec<u8>, number, error: &str| {
        assert_eq!(found, message(&[(number, error.as_bytes())]), "{error}");
    };
    let signature = key!("rsa.sha256.signature");
    let bad = "Failed to verify digest. Error code: 0";
    says(verify("sha256", key!("rsa.public.pem"), b"x"), 2, bad);
    says(verify("sha512", key!("rsa.public.pem"), signature), 2, bad);
    says(verify("sha256", key!("elliptic.public.pem"), signature), 2, bad);
    says(verify("md5", key!("rsa.public.pem"), b"x"), 2, "md5 is not supported.");
    says(verify("", key!("rsa.public.pem"), b"x"), 2, " is not supported.");
    for key in [key!("ed25519.public.pem"), key!("rsa.pkcs8.pem"), b"junk"] {
        says(verify("sha256", key, b"x"), 2, "Failed to initialize digest verify.");
    }
    let other = "Invalid key type: private key required for signing operation.";
    says(sign("sha256", b"", key!("rsa.public.pem")).unwrap(), 3, other);
    says(sign("sha256", b"", b"junk").unwrap(), 3, other);
    for der in [b"junk".to_vec(), der(key!("rsa.pkcs1.pem")), der(key!("rsa.public.pem"))] {
        says(sign("sha256", &der, b"").unwrap(), 3, other);
    }
    let broken = "Invalid private key: key data is corrupted or malformed.";
    says(sign("sha256", b"", key!("ed25519.pkcs8.pem")).unwrap(), 3, broken);
    says(sign("md5", b"", key!("rsa.pkcs8.pem")).unwrap(), 3, "md5 is not supported.");
    // What the library here cannot do, and Envoy's can.
    says(sign("sha1", b"", key!("rsa.pkcs8.pem")).unwrap(), 3, "sha1 is not supported.");
    says(sign("sha512", b"", key!("elliptic.pkcs8.pem")).unwrap(), 3, "sha512 is not supported.");
    says(verify("sha224", key!("rsa.public.pem"), b"x"), 2, "sha224 is not supported.");
}

#[test]
fn a_key_in_der_may_have_something_behind_it() {
    let key = [&der(key!("rsa.public.pem"))[..], b"zz"].concat();
    let signature = key!("rsa.sha256.signature");
    let arguments = message(&[(1, b"sha256"), (2, &key), (3, signature), (4, TEXT)]);
    assert_eq!(call("verify_signature", &arguments).unwrap(), VALID);
}

#[test]
fn a_call_has_one_key_and_is_well_formed() {
    let pem = key!("rsa.pkcs8.pem");
    assert_eq!(sign("sha256", &der(pem), pem), Err(Status::BadArgument));
    for name in ["sign", "verify_signature"] {
        assert_eq!(call(name, b""), Err(Status::BadArgument));
        assert_eq!(call(name, &[0xff]), Err(Status::BadArgument));
        assert_eq!(call(name, &message(&[(1, b"\xff")])), Err(Status::BadArgument));
        assert_eq!(call(name, &vec![0; WORK_BYTES_MAX + 1]), Err(Status::InternalFailure));
    }
}

#[test]
fn keys_cut_off_anywhere_do_no_harm() {
    for pem in [
        key!("rsa.pkcs8.pem"),
        key!("rsa.pkcs1.pem"),
        key!("rsa.public.pem"),
        key!("elliptic.sec1.pem"),
        key!("elliptic.public.pem"),
    ] {
        let der = der(pem);
        for end in 0..der.len() {
            assert!(PublicKey::read(&der[..end], false).is_none(), "{end}");
            assert!(PrivateKey::read(&der[..end], false).is_err(), "{end}");
        }
    }
}
