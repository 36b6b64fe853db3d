//! Spending, limits and the history of both, over Forebay's own API.

use super::{Client, ClientError};
use crate::wire::{
    BudgetInfo, BudgetList, BudgetQuery, BudgetRef, BudgetSet, CostCheck, CostQuery, SpendingInfo, SpendingQuery,
    TransactionList, TransactionQuery,
};
use reqwest::Method;

const BUDGETS: &str = "/api/v1/budgets";

impl Client {
    /// How the limits stand that count for somebody.
    pub async fn spending(&self, query: &SpendingQuery) -> Result<SpendingInfo, ClientError> {
        self.json(self.request(Method::GET, "/api/v1/spending").query(query))
            .await
    }

    /// What something would cost at most, and whether the limits would let it in. Nothing is asked, called or set aside.
    pub async fn cost(&self, of: &CostQuery) -> Result<CostCheck, ClientError> {
        self.json(self.request(Method::POST, "/api/v1/spending/check").json(of))
            .await
    }

    pub async fn budgets(&self, query: &BudgetQuery) -> Result<BudgetList, ClientError> {
        self.json(self.request(Method::GET, BUDGETS).query(query)).await
    }

    pub async fn set_budget(&self, wanted: &BudgetSet) -> Result<BudgetInfo, ClientError> {
        self.json(self.request(Method::PUT, BUDGETS).json(wanted)).await
    }

    pub async fn remove_budget(&self, which: &BudgetRef) -> Result<BudgetInfo, ClientError> {
        self.json(self.request(Method::DELETE, BUDGETS).query(which)).await
    }

    /// One page of the movements of money, the newest first.
    pub async fn transactions(&self, query: &TransactionQuery) -> Result<TransactionList, ClientError> {
        let path = "/api/v1/billing/transactions";
        self.json(self.request(Method::GET, path).query(query)).await
    }
}
