//! Tokens, as they are written and read.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::accounts::{USER, USER_COLUMNS, user};
use super::codes::{bad, checked};
use super::db::{Db, Row, Value, all, one, values};
use super::merchants::TERMS;
use super::steps::{behind, words};
use super::store::{Backend, SqlStore};
use crate::domain::by::By;
use crate::domain::id::{MerchantId, TokenId, UserId, WebhookId};
use crate::domain::labels::Labels;
use crate::domain::page::Slice;
use crate::domain::secret::KeyHash;
use crate::domain::time::Timestamp;
use crate::domain::token::{Confinement, NewToken, Token};
use crate::domain::user::{Permissions, User};
use crate::store::error::StoreError;
use crate::store::tokens::Tokens;
use crate::work::Account;

type Result<T> = std::result::Result<T, StoreError>;

/// The columns that [`token`] reads, of a token `t` and its user `u`.
const TOKEN: &str = "t.token_id, t.merchant_id, u.name, t.name, t.permissions, t.confinement, t.created_at,
    t.expires_at, t.user_id";
/// How many they are.
const COLUMNS: usize = 9;

/// Where they come from; takes a WHERE behind it.
const FROM: &str = "FROM token t JOIN \"user\" u ON u.user_id = t.user_id
    JOIN merchant m ON m.merchant_id = t.merchant_id";

#[async_trait]
impl<B: Backend> Tokens for SqlStore<B> {
    async fn token(&self, key: KeyHash, asker: Account) -> Result<Option<(Token, User)>> {
        let sql = format!("SELECT {USER}, {TERMS}, {TOKEN} {FROM} WHERE t.key_hash = $1");
        let read = |row: &dyn Row| Ok((token(row, USER_COLUMNS)?, user(row)?));
        self.readers.by_key(asker, move |conn| one(conn, &sql, values![&key.0], read)).await
    }

    async fn tokens(&self, merchant: MerchantId, user: Option<UserId>, slice: Slice<TokenId>) -> Result<Vec<Token>> {
        self.readers.read(merchant, move |conn| tokens(conn, merchant, user, &slice)).await
    }
}

/// How a confinement is kept.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kept {
    Webhooks(Vec<i64>),
    Label(BTreeMap<String, String>),
}

fn confinement_text(confinement: &Confinement) -> Result<String> {
    let kept = match confinement {
        Confinement::Webhooks(ids) => Kept::Webhooks(ids.iter().map(|id| id.0).collect()),
        Confinement::Label(label) => Kept::Label([(label.name().to_owned(), label.value().to_owned())].into()),
    };
    serde_json::to_string(&kept).map_err(StoreError::failed)
}

fn confinement(text: &str) -> Result<Confinement> {
    match serde_json::from_str(text).map_err(|_| bad("confinement"))? {
        Kept::Webhooks(ids) => checked(Confinement::webhooks(ids.into_iter().map(WebhookId).collect())),
        Kept::Label(pairs) => match checked(Labels::try_new(pairs))?.list() {
            [label] => Ok(Confinement::Label(label.clone())),
            _ => Err(bad("confinement")),
        },
    }
}

/// A token, from [`TOKEN`], whose columns begin there.
fn token(row: &dyn Row, first: usize) -> Result<Token> {
    let permissions = u8::try_from(row.int(first + 4)?).map_err(|_| bad("permissions"))?;
    Ok(Token {
        token_id: TokenId(row.int(first)?),
        merchant_id: MerchantId(row.int(first + 1)?),
        user: row.string(first + 2)?,
        name: row.string(first + 3)?,
        permissions: Permissions::from_bits(permissions),
        confinement: row.text_if(first + 5)?.map(confinement).transpose()?,
        created_at: row.time(first + 6)?,
        expires_at: row.time_if(first + 7)?,
    })
}

/// Tokens, in the order of their ids.
fn tokens(db: &mut dyn Db, merchant: MerchantId, user: Option<UserId>, slice: &Slice<TokenId>) -> Result<Vec<Token>> {
    let ((direction, lies_behind), after) = (words(slice.order), behind(slice.after.map(|after| after.0), slice.order));
    let of_one = if user.is_some() { "AND t.user_id = $4" } else { "" };
    let sql = format!(
        "SELECT {TOKEN} {FROM} WHERE t.merchant_id = $1 AND t.token_id {lies_behind} $2 {of_one}
            ORDER BY t.token_id {direction} LIMIT $3"
    );
    let mut values = values![merchant.0, after, slice.limit].to_vec();
    values.extend(user.map(|user| Value::from(user.0)));
    all(db, &sql, &values, |row| token(row, 0))
}

/// A token of the merchant, and whose it is, as changes see it.
pub fn find(db: &mut dyn Db, merchant: MerchantId, id: TokenId) -> Result<Option<(UserId, Token)>> {
    let sql = format!("SELECT {TOKEN} {FROM} WHERE t.token_id = $2 AND t.merchant_id = $1");
    let read = |row: &dyn Row| Ok((UserId(row.int(COLUMNS - 1)?), token(row, 0)?));
    one(db, &sql, values![merchant.0, id.0], read)
}

/// How many tokens a merchant has that have not ended.
pub fn count(db: &mut dyn Db, merchant: MerchantId, now: Timestamp) -> Result<u32> {
    let sql = "SELECT count(*) FROM token WHERE merchant_id = $1 AND (expires_at IS NULL OR expires_at > $2)";
    Ok(one(db, sql, values![merchant.0, now], |row| row.count(0))?.unwrap_or(0))
}

/// Writes a new one.
pub fn insert(db: &mut dyn Db, by: &By, token: &NewToken, now: Timestamp) -> Result<()> {
    let NewToken { name, key, permissions, confinement, expires_at } = token;
    let confinement = confinement.as_ref().map(confinement_text).transpose()?;
    let sql =
        "INSERT INTO token (merchant_id, user_id, name, key_hash, permissions, confinement, created_at, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let values = values![
        by.merchant.0,
        by.user.0,
        name,
        &key.0,
        i64::from(permissions.bits()),
        confinement.as_deref(),
        now,
        *expires_at,
    ];
    db.run(sql, values).map(drop)
}
