//! The process of the attacker: it prepares an attack, waits for the word on its
//! standard input, attacks for so long, and says how its calls were answered;
//! or says why it can't.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::super::load::Wire;
use super::attacker::Attacker;
use super::tally::Tally;
use super::{attacks, rpc};
use crate::cli::serve::raise_file_limit;
use crate::cli::{Failure, block_on, print};

/// Whom to attack, and how.
#[derive(Args)]
pub struct AttackerArgs {
    /// Which attack
    #[arg(long)]
    attack: String,
    /// The address that it comes from
    #[arg(long)]
    from: IpAddr,
    /// The server, as `host:port`
    #[arg(long)]
    address: String,
    /// The attacker's receiver, as `host:port`
    #[arg(long)]
    receiver: String,
    /// Who may do all that a user may
    #[arg(long)]
    user: String,
    /// The key of that user
    #[arg(long)]
    key: String,
    /// The key of a user of the same merchant who may only read
    #[arg(long)]
    reader_key: String,
    /// How long to attack
    #[arg(long)]
    seconds: u64,
}

/// Runs the attacker's process.
pub fn attack(args: &AttackerArgs) -> Result<(), Failure> {
    raise_file_limit();
    let attack = attacks::ALL.iter().find(|attack| attack.name == args.attack);
    let attack = attack.ok_or_else(|| Failure::usage(format!("{}: there is no such attack", args.attack)))?;
    block_on(async {
        let done = carry_out(attack, args).await;
        if let Err(Failure { message: Some(why), .. }) = &done {
            print(why)?;
        }
        print(&serde_json::to_string(&done?).map_err(Failure::failed)?)
    })
}

async fn carry_out(attack: &attacks::Attack, args: &AttackerArgs) -> Result<Tally, Failure> {
    let session = rpc::login(&mut Wire::open_from(args.from, &args.address).await?, &args.user, &args.key).await?;
    let attacker = Attacker {
        user: args.user.clone(),
        key: args.key.clone(),
        reader_key: args.reader_key.clone(),
        from: args.from,
        address: args.address.clone(),
        receiver: args.receiver.clone(),
        session,
        lasts: Duration::from_secs(args.seconds),
        counts: Arc::default(),
    };
    (attack.run)(attacker.clone()).await?;
    Ok(attacker.tally())
}
