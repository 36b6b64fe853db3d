//! The markets that are configured, made once and kept while their configuration and their keys stay as they are: a
//! client knows how often its provider wants to be asked.

use crate::{
    config::MarketsConfig,
    market::{
        Market,
        ionet::IoNet,
        local::{AgentProgram, Local, LocalParts, slots},
        runpod::RunPod,
        vast::Vast,
    },
};
use forebay_domain::{Code, Failure, market::Provider};
use forebay_runtime::{Clock, Secret, SecretRef, Tasks, child::Launcher, secret::SecretReader};
use reqwest::Client;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc};
use url::Url;

pub(crate) struct Markets {
    config: MarketsConfig,
    pub by_provider: BTreeMap<Provider, Arc<dyn Market>>,
    /// Of their keys, so that a key that was changed is noticed.
    keys: BTreeMap<Provider, [u8; 32]>,
    /// Of their addresses and keys: another one may be of somebody who sees none of our machines.
    pub accounts: BTreeMap<Provider, String>,
    /// What runs here goes on, however it is offered.
    local: Option<Local>,
}

pub(crate) struct MarketMaker {
    pub secrets: SecretReader,
    pub http: Client,
    pub clock: Clock,
    pub launcher: Launcher,
    pub agent: AgentProgram,
    pub tasks: Tasks,
}

impl MarketMaker {
    pub(crate) fn make(&self, config: MarketsConfig, before: Option<&Markets>) -> Result<Markets, Failure> {
        let mut made = Markets {
            local: self.local(&config, before),
            by_provider: BTreeMap::new(),
            keys: BTreeMap::new(),
            accounts: BTreeMap::new(),
            config,
        };
        let config = made.config.clone();
        if let (Some(local), Some(_)) = (&made.local, &config.local) {
            made.by_provider.insert(Provider::Local, Arc::new(local.clone()));
        }
        if let Some(vast) = &config.vast {
            let is_same = before.is_some_and(|before| before.config.vast.as_ref() == Some(vast));
            self.keep_or_make(
                &mut made,
                Provider::Vast,
                (&vast.url, &vast.api_key),
                before.filter(|_| is_same),
                |key| Arc::new(Vast::new(vast, key, self.http.clone(), self.clock.clone())),
            )?;
        }
        if let Some(ionet) = &config.ionet {
            let is_same = before.is_some_and(|before| before.config.ionet.as_ref() == Some(ionet));
            self.keep_or_make(
                &mut made,
                Provider::IoNet,
                (&ionet.url, &ionet.api_key),
                before.filter(|_| is_same),
                |key| Arc::new(IoNet::new(ionet, key, self.http.clone())),
            )?;
        }
        if let Some(runpod) = &config.runpod {
            let is_same = before.is_some_and(|before| before.config.runpod.as_ref() == Some(runpod));
            self.keep_or_make(
                &mut made,
                Provider::RunPod,
                (&runpod.url, &runpod.api_key),
                before.filter(|_| is_same),
                |key| Arc::new(RunPod::new(runpod, key, self.http.clone())),
            )?;
        }
        Ok(made)
    }

    fn keep_or_make(
        &self,
        made: &mut Markets,
        provider: Provider,
        (url, api_key): (&Url, &SecretRef),
        same: Option<&Markets>,
        build: impl FnOnce(Secret) -> Arc<dyn Market>,
    ) -> Result<(), Failure> {
        let key = self.secrets.read(api_key).map_err(|fault| {
            let message = format!("the key of the market `{provider}` cannot be read: {fault}");
            Failure::new(Code::InvalidConfig, message)
        })?;
        let hash: [u8; 32] = Sha256::digest(key.expose().as_bytes()).into();
        let kept = same.filter(|same| same.keys.get(&provider) == Some(&hash));
        let market = kept.and_then(|kept| kept.by_provider.get(&provider).cloned());
        made.by_provider.insert(provider, market.unwrap_or_else(|| build(key)));
        made.keys.insert(provider, hash);
        let mut account = Sha256::new_with_prefix(hash);
        account.update(url.as_str());
        made.accounts.insert(
            provider,
            hex::encode(account.finalize().first_chunk::<8>().expect("it has 32")),
        );
        Ok(())
    }

    fn local(&self, config: &MarketsConfig, before: Option<&Markets>) -> Option<Local> {
        let earlier = before.and_then(|before| before.local.clone());
        let Some(config) = &config.local else {
            return earlier;
        };
        let is_as_before = before.is_some_and(|before| before.config.local.as_ref() == Some(config));
        match earlier {
            Some(local) if is_as_before => Some(local),
            Some(local) => Some(local.offered_as(config, slots(config.cpu_slots))),
            None => Some(Local::new(LocalParts {
                config: config.clone(),
                slots: slots(config.cpu_slots),
                agent: self.agent.clone(),
                launcher: self.launcher.clone(),
                clock: self.clock.clone(),
                tasks: self.tasks.clone(),
            })),
        }
    }
}
