//! The C interface of `shim/`, and the only unsafe code over c10d.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::time::Duration;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn hp_free(memory: *mut c_void);
    fn hp_store_host(port: u16, timeout_ms: i64, store: *mut *mut c_void, bound: *mut u16) -> *mut c_char;
    fn hp_store_drop(store: *mut c_void);
    fn hp_group_connect(
        host: *const c_char,
        port: u16,
        is_server: c_int,
        prefix: *const c_char,
        rank: c_int,
        world_size: c_int,
        timeout_ms: i64,
        present: *mut u8,
        group: *mut *mut c_void,
    ) -> *mut c_char;
    fn hp_group_close(group: *mut c_void) -> *mut c_char;
    fn hp_group_set_timeout(group: *mut c_void, timeout_ms: i64) -> *mut c_char;
    fn hp_group_drop(group: *mut c_void) -> *mut c_char;
    fn hp_group_roll_call(group: *mut c_void, patience_ms: i64, present: *mut u8) -> *mut c_char;
    fn hp_group_exchange(group: *mut c_void, packet: *const u8, packets: *mut u8, bytes: i64) -> *mut c_char;
    fn hp_group_all_reduce(group: *mut c_void, tensor: *const C_tensor, op: c_int) -> *mut c_char;
    fn hp_group_start_all_gather(
        group: *mut c_void,
        output: *const C_tensor,
        input: *const C_tensor,
        work: *mut *mut c_void,
    ) -> *mut c_char;
    fn hp_work_wait(group: *mut c_void, work: *mut c_void) -> *mut c_char;
    fn hp_work_drop(work: *mut c_void) -> *mut c_char;
    fn hp_group_reduce_scatter(
        group: *mut c_void,
        output: *const C_tensor,
        input: *const C_tensor,
        op: c_int,
    ) -> *mut c_char;
    fn hp_group_broadcast(group: *mut c_void, tensor: *const C_tensor, root: c_int) -> *mut c_char;
    fn hp_group_monitored_barrier(group: *mut c_void) -> *mut c_char;
    fn hp_autograd_grad(
        outputs: *const *const C_tensor,
        grad_outputs: *const *const C_tensor,
        output_count: usize,
        inputs: *const *const C_tensor,
        input_count: usize,
        retain_graph: c_int,
        create_graph: c_int,
        allow_unused: c_int,
        gradients: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn hp_generator_state(cuda_index: c_int, state: *mut *mut C_tensor) -> *mut c_char;
    fn hp_generator_set_state(cuda_index: c_int, state: *const C_tensor) -> *mut c_char;
}

/// What the C++ side threw, in its own words.
pub(crate) type Outcome<T = ()> = Result<T, String>;

fn outcome(message: *mut c_char) -> Outcome {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the shim returns null or a NUL-terminated string from malloc, ours to give back.
    unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().trim_end().to_owned();
        hp_free(message.cast());
        Err(text)
    }
}

fn text(value: &str) -> Outcome<CString> {
    CString::new(value).map_err(|_| format!("{value:?} contains a NUL byte"))
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 1_000_000).clamp(1, i64::MAX / 1_000_000)
}

fn int(value: usize) -> Outcome<c_int> {
    c_int::try_from(value).map_err(|_| format!("{value} does not fit a C int"))
}

/// The server of a `TCPStore`.
pub(crate) struct StoreHandle(*mut c_void);

// SAFETY: the server runs in threads of its own; the handle does nothing but keep it alive.
unsafe impl Send for StoreHandle {}

impl StoreHandle {
    pub(crate) fn host(port: u16, timeout: Duration) -> Outcome<(Self, u16)> {
        let (mut store, mut bound) = (std::ptr::null_mut(), 0);
        // SAFETY: both pointers are valid for writes; the store is set where no error is returned.
        outcome(unsafe { hp_store_host(port, milliseconds(timeout), &mut store, &mut bound) })?;
        Ok((Self(store), bound))
    }
}

impl Drop for StoreHandle {
    fn drop(&mut self) {
        // SAFETY: created by hp_store_host and dropped once.
        unsafe { hp_store_drop(self.0) }
    }
}

/// Where and as what to connect.
pub(crate) struct Endpoint<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) is_server: bool,
    pub(crate) prefix: &'a str,
    pub(crate) rank: usize,
    pub(crate) world_size: usize,
    pub(crate) timeout: Duration,
}

/// A connected group of ranks.
pub(crate) struct GroupHandle {
    group: *mut c_void,
    world_size: usize,
}

// SAFETY: c10d's objects may move between threads; they must not be used by two at once, and the handle
// is not Sync.
unsafe impl Send for GroupHandle {}

impl GroupHandle {
    /// On failure also says which ranks were heard of in the store, where that is known.
    pub(crate) fn connect(endpoint: &Endpoint<'_>) -> Result<Self, (String, Vec<bool>)> {
        let mut present = vec![0_u8; endpoint.world_size];
        let mut group = std::ptr::null_mut();
        let connected = text(endpoint.host).and_then(|host| {
            let prefix = text(endpoint.prefix)?;
            let (rank, world_size) = (int(endpoint.rank)?, int(endpoint.world_size)?);
            // SAFETY: strings outlive the call, `present` holds world_size bytes.
            outcome(unsafe {
                hp_group_connect(
                    host.as_ptr(),
                    endpoint.port,
                    c_int::from(endpoint.is_server),
                    prefix.as_ptr(),
                    rank,
                    world_size,
                    milliseconds(endpoint.timeout),
                    present.as_mut_ptr(),
                    &mut group,
                )
            })
        });
        match connected {
            Ok(()) => Ok(Self { group, world_size: endpoint.world_size }),
            Err(message) => Err((message, present.iter().map(|&flag| flag != 0).collect())),
        }
    }

    pub(crate) fn close(&self) -> Outcome {
        // SAFETY: `group` is alive as long as self.
        outcome(unsafe { hp_group_close(self.group) })
    }

    pub(crate) fn set_timeout(&mut self, timeout: Duration) -> Outcome {
        // SAFETY: `group` is alive as long as self.
        outcome(unsafe { hp_group_set_timeout(self.group, milliseconds(timeout)) })
    }

    /// Which ranks say in the store, within `patience`, that they are still running.
    pub(crate) fn roll_call(&self, patience: Duration) -> Outcome<Vec<bool>> {
        let mut present = vec![0_u8; self.world_size];
        // SAFETY: `present` holds world_size bytes.
        outcome(unsafe { hp_group_roll_call(self.group, milliseconds(patience), present.as_mut_ptr()) })?;
        Ok(present.iter().map(|&flag| flag != 0).collect())
    }

    /// Sends `packet` to all ranks; returns theirs, one behind the other in rank order.
    pub(crate) fn exchange(&self, packet: &[u8]) -> Outcome<Vec<u8>> {
        let mut packets = vec![0; packet.len() * self.world_size];
        let bytes = i64::try_from(packet.len()).map_err(|error| error.to_string())?;
        // SAFETY: the buffers hold `bytes` and world_size × `bytes`, and outlive the call; the shim hands
        // copies of them to Gloo's threads.
        outcome(unsafe { hp_group_exchange(self.group, packet.as_ptr(), packets.as_mut_ptr(), bytes) })?;
        Ok(packets)
    }

    pub(crate) fn all_reduce(&self, tensor: &Tensor, op: c_int) -> Outcome {
        // SAFETY: a live tensor; c10d keeps its own reference to the storage.
        outcome(unsafe { hp_group_all_reduce(self.group, tensor.as_ptr(), op) })
    }

    pub(crate) fn start_all_gather(&self, output: &Tensor, input: &Tensor) -> Outcome<WorkHandle> {
        let mut work = std::ptr::null_mut();
        // SAFETY: as all_reduce; `work` is valid for writes and set where no error is returned.
        outcome(unsafe {
            hp_group_start_all_gather(self.group, output.as_ptr(), input.as_ptr(), &mut work)
        })?;
        Ok(WorkHandle(work))
    }

    pub(crate) fn wait(&self, work: WorkHandle) -> Outcome {
        let work = ManuallyDrop::new(work);
        // SAFETY: made by hp_group_start_all_gather of this group, and given back once: `work` is not dropped.
        outcome(unsafe { hp_work_wait(self.group, work.0) })
    }

    pub(crate) fn reduce_scatter(&self, output: &Tensor, input: &Tensor, op: c_int) -> Outcome {
        // SAFETY: as all_reduce.
        outcome(unsafe { hp_group_reduce_scatter(self.group, output.as_ptr(), input.as_ptr(), op) })
    }

    pub(crate) fn broadcast(&self, tensor: &Tensor, root: usize) -> Outcome {
        let root = int(root)?;
        // SAFETY: as all_reduce.
        outcome(unsafe { hp_group_broadcast(self.group, tensor.as_ptr(), root) })
    }

    pub(crate) fn monitored_barrier(&self) -> Outcome {
        // SAFETY: `group` is alive as long as self.
        outcome(unsafe { hp_group_monitored_barrier(self.group) })
    }
}

/// A collective under way. Dropped without [`wait`](GroupHandle::wait) it is given up, which only a group that is
/// closed may do: others would wait for this rank.
#[must_use]
pub(crate) struct WorkHandle(*mut c_void);

impl Drop for WorkHandle {
    fn drop(&mut self) {
        // SAFETY: made by hp_group_start_all_gather, and not waited for.
        if let Err(message) = outcome(unsafe { hp_work_drop(self.0) }) {
            log::warn!("giving up a collective: {message}");
        }
    }
}

impl Drop for GroupHandle {
    fn drop(&mut self) {
        // SAFETY: created by hp_group_connect and dropped once.
        if let Err(message) = outcome(unsafe { hp_group_drop(self.group) }) {
            log::warn!("closing a process group: {message}");
        }
    }
}

pub(crate) fn grad(
    outputs: &[&Tensor],
    grad_outputs: &[Option<&Tensor>],
    inputs: &[&Tensor],
    retain_graph: bool,
    create_graph: bool,
    allow_unused: bool,
) -> Outcome<Vec<Option<Tensor>>> {
    let pointers = |tensors: &[&Tensor]| tensors.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
    let (output_pointers, input_pointers) = (pointers(outputs), pointers(inputs));
    let seeds: Vec<_> = (0..outputs.len())
        .map(|i| grad_outputs.get(i).copied().flatten().map_or(std::ptr::null(), Tensor::as_ptr))
        .collect();
    let mut gradients = vec![std::ptr::null_mut(); inputs.len()];
    // SAFETY: live tensors, arrays of the lengths given; null stands for an undefined output gradient.
    outcome(unsafe {
        hp_autograd_grad(
            output_pointers.as_ptr(),
            seeds.as_ptr(),
            outputs.len(),
            input_pointers.as_ptr(),
            inputs.len(),
            c_int::from(retain_graph),
            c_int::from(create_graph),
            c_int::from(allow_unused),
            gradients.as_mut_ptr(),
        )
    })?;
    Ok(gradients.into_iter().map(owned).collect())
}

fn owned(pointer: *mut C_tensor) -> Option<Tensor> {
    // SAFETY: the shim gives out null or a tensor of which we are the only owner.
    (!pointer.is_null()).then(|| unsafe { Tensor::from_ptr(pointer) })
}

pub(crate) fn generator_state(cuda_index: c_int) -> Outcome<Tensor> {
    let mut state = std::ptr::null_mut();
    // SAFETY: `state` is valid for writes and set where no error is returned.
    outcome(unsafe { hp_generator_state(cuda_index, &mut state) })?;
    owned(state).ok_or_else(|| "libtorch returned no state".to_owned())
}

pub(crate) fn set_generator_state(cuda_index: c_int, state: &Tensor) -> Outcome {
    // SAFETY: a live tensor.
    outcome(unsafe { hp_generator_set_state(cuda_index, state.as_ptr()) })
}
