//! One address for all dispatchers, like a Service of Kubernetes: each new connection goes to the next dispatcher.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// A dispatcher. Each open connection to it holds a clone of `connections`.
#[derive(Clone)]
struct Endpoint {
    address: SocketAddr,
    connections: Arc<()>,
}

#[derive(Clone, Default)]
struct Endpoints(Arc<Mutex<Vec<Endpoint>>>);

pub(super) struct Service {
    address: SocketAddr,
    endpoints: Endpoints,
    _acceptor: AbortOnDropHandle<()>,
}

impl Endpoints {
    fn all(&self) -> MutexGuard<'_, Vec<Endpoint>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoint of connection number `turn`.
    fn at(&self, turn: usize) -> Option<Endpoint> {
        let all = self.all();
        all.get(turn.checked_rem(all.len())?).cloned()
    }
}

impl Service {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, endpoints) = (listener.local_addr().unwrap(), Endpoints::default());
        let acceptor = AbortOnDropHandle::new(tokio::spawn(accept(listener, endpoints.clone())));
        Self { address, endpoints, _acceptor: acceptor }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// New connections may go to this dispatcher, too.
    pub(super) fn add(&self, address: SocketAddr) {
        self.endpoints.all().push(Endpoint { address, connections: Arc::default() });
    }

    /// No new connection goes to this dispatcher; open ones stay.
    pub(super) fn remove(&self, address: SocketAddr) {
        self.endpoints.all().retain(|endpoint| endpoint.address != address);
    }

    /// The number of open connections to a dispatcher.
    pub(super) fn connections(&self, address: SocketAddr) -> usize {
        let of = |endpoint: &Endpoint| Arc::strong_count(&endpoint.connections) - 1;
        self.endpoints.all().iter().find(|endpoint| endpoint.address == address).map_or(0, of)
    }
}

async fn accept(listener: TcpListener, endpoints: Endpoints) {
    for turn in 0.. {
        let Ok((mut client, _)) = listener.accept().await else { continue };
        let Some(endpoint) = endpoints.at(turn) else { continue };
        tokio::spawn(async move {
            if let Ok(mut server) = TcpStream::connect(endpoint.address).await {
                // Either side may cut the connection, which is no error here.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
            drop(endpoint);
        });
    }
}
