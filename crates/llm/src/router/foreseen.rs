//! What would become of a request that nobody sends: where it would go, and what it would cost.

use super::{Router, bounded};
use crate::{
    money::{Bound, Order, check_model, once},
    routing::{self, RouteExplanation},
    upstream::chain,
};
use forebay_domain::{Action, Failure, Principal, id::TraceId, model::ModelRequest, money::Usd};

impl Router {
    /// Why a request of this principal to this model would go where it would. `affinity` stands for how its prompt
    /// begins.
    pub fn explain_route(
        &self,
        principal: &Principal,
        model: &str,
        affinity: Option<u64>,
    ) -> Result<RouteExplanation, Failure> {
        principal.require(&Action::model(bounded(model)))?;
        let settings = self.desk.settings.load();
        let found = settings
            .models
            .get(model)
            .ok_or_else(|| self.unknown(principal, model))?;
        let mut told = routing::explain(&settings, principal, found, affinity);
        for step in &mut told.steps {
            let prices = settings.models.get(&step.model).and_then(|model| model.prices);
            step.outcome.push_str(&self.desk.billing.words(principal, prices));
        }
        Ok(told)
    }

    /// What would be set aside for such a request each time that a model is asked. What context, tools and former answers
    /// add to it is not known before. `None` where no limit counts and nobody can say.
    pub fn cost_at_most(
        &self,
        principal: &Principal,
        request: &ModelRequest,
        trace: TraceId,
    ) -> Result<Option<Usd>, Failure> {
        principal.require(&Action::model(bounded(&request.model)))?;
        let settings = self.desk.settings.load_full();
        let found = settings.models.get(&request.model);
        let model = found.ok_or_else(|| self.unknown(principal, &request.model))?;
        check_model(&request.body, self.desk.billing.limits(principal))?;
        let order = Order {
            principal,
            trace,
            endpoint: request.endpoint,
            chain: chain(&settings, model, principal),
            bytes: request.body.len(),
            lasts: model.timeouts.total,
        };
        let bound = || Bound::of(request.endpoint, &once(&request.body)?);
        self.desk.billing.cost_at_most(&order, bound)
    }
}
