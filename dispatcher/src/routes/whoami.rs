//! Who a caller is, and what it may do.

use axum::Json;

use crate::access::scope::Scope;
use crate::api::{Problem, WhoAmI};
use crate::routes::caller::Caller;

/// The name of the token, and its scopes. Any token.
#[utoipa::path(
    get, path = "/v1/whoami", operation_id = "who_am_i", tag = "health",
    responses(
        (status = 200, description = "who the caller is", body = WhoAmI),
        (status = 401, description = "no token, or an unknown one", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(caller: Caller) -> Json<WhoAmI> {
    let scopes =
        Scope::ALL.into_iter().filter(|scope| caller.may(*scope)).map(|scope| scope.word().to_owned());
    Json(WhoAmI { scopes: scopes.collect(), signed_in: caller.signed_in, name: caller.name })
}
