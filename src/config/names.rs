//! Names in the environment.

/// What every variable of ours begins with.
pub const PREFIX: &str = "TALLYHOOK_";
/// Names the TOML file.
pub const CONFIG_VARIABLE: &str = "TALLYHOOK_CONFIG";
/// The server that `tallyhook call` talks to.
pub const URL_VARIABLE: &str = "TALLYHOOK_URL";
/// Who `tallyhook call` logs in as.
pub const USER_VARIABLE: &str = "TALLYHOOK_USER";
/// What `tallyhook call` logs in with.
pub const KEY_VARIABLE: &str = "TALLYHOOK_KEY";
/// The authorities that `tallyhook call` trusts besides the system's.
pub const SERVER_CA_VARIABLE: &str = "TALLYHOOK_SERVER_CA_FILE";
/// The certificate that `tallyhook call` presents.
pub const CLIENT_CERT_VARIABLE: &str = "TALLYHOOK_CLIENT_CERT";
/// Its key.
pub const CLIENT_KEY_VARIABLE: &str = "TALLYHOOK_CLIENT_KEY";
/// What `tallyhook listen` verifies with.
pub const SECRET_VARIABLE: &str = "TALLYHOOK_SECRET";
/// Variables that are ours but no key's.
pub const OTHER_VARIABLES: [&str; 8] = [
    CONFIG_VARIABLE,
    URL_VARIABLE,
    USER_VARIABLE,
    KEY_VARIABLE,
    SERVER_CA_VARIABLE,
    CLIENT_CERT_VARIABLE,
    CLIENT_KEY_VARIABLE,
    SECRET_VARIABLE,
];
