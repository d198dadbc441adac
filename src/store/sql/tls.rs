//! What is wrong with a server's certificate, and how to make one that works.

/// The authorities of the operating system, where it has them in one file; the public ones are built in.
pub(super) fn system_authorities() -> Option<std::path::PathBuf> {
    use std::path::PathBuf;

    const PLACES: [&str; 5] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let said = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    said.into_iter().chain(PLACES.map(PathBuf::from)).find(|file| file.is_file())
}

/// What to do about it. `text` is what the TLS library says, `parameter` what names the authority in the URL.
pub(super) fn advice(text: &str, parameter: &str) -> String {
    // Signed by itself, and yet no authority.
    let make = format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=HOST -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:HOST -keyout server.key -out server.crt (HOST as in the URL; IP:ADDRESS for an address), give both files to the server, and name server.crt with {parameter}=/path/to/server.crt in the URL or with --database-ca-file"
    );
    let has = |word: &str| text.contains(word);
    if has("does not support TLS") || has("TLS upgrade required") {
        return "the server speaks no TLS: give it a certificate and turn TLS on (PostgreSQL: ssl = on; MySQL and MariaDB: ssl_cert and ssl_key)".to_owned();
    }
    if has("CaUsedAsEndEntity") {
        return format!(
            "the server's certificate says of itself that it is an authority's (CA:TRUE), as `openssl req -x509` makes it by default; such a certificate cannot prove which server this is. Make one that can: {make}"
        );
    }
    if has("UnsupportedCertVersion") {
        return format!(
            "the server's certificate is of X.509 version 1, which cannot say for which host it is; make one of version 3: {make}"
        );
    }
    if has("not valid for") || has("NotValidForName") {
        return format!(
            "the server's certificate is made out for other names than the host in the URL (names count in its subjectAltName alone, not in its CN); connect by a name that it has, or make one that has this name: {make}"
        );
    }
    if has("xpired") {
        return "the server's certificate has expired, or this machine's clock is wrong; renew it".to_owned();
    }
    if has("not valid yet") || has("NotValidYet") {
        return "the server's certificate is not valid yet, or this machine's clock is wrong".to_owned();
    }
    if has("UnknownIssuer") {
        return format!(
            "no authority that is known here signed the server's certificate; name the one that did with {parameter}=/path/to/ca.crt in the URL or with --database-ca-file"
        );
    }
    format!(
        "look at the server's certificate (openssl s_client -starttls postgres -connect HOST:PORT; mysql in place of postgres), and name the authority that signed it with {parameter}=/path/to/ca.crt in the URL or with --database-ca-file"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_advice_gives_up_encryption_or_verification() {
        for text in [
            "server does not support TLS",
            "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
            "invalid peer certificate: Other(OtherError(UnsupportedCertVersion))",
            "invalid peer certificate: certificate not valid for name \"a\"",
            "invalid peer certificate: certificate expired: verification time 1",
            "invalid peer certificate: UnknownIssuer",
            "something else",
        ] {
            let advice = advice(text, "sslrootcert").to_lowercase();
            for word in ["disable", "=require", "prefer", "allow"] {
                assert!(!advice.contains(word), "{text}: {advice}");
            }
            assert!(advice.len() > 50, "{text}: {advice}");
        }
    }
}
