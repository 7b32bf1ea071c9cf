"""The libraries, each by its own public interface and in the configuration that its documentation recommends.

Of each:
- `ATTENTION`: for each kind of product that it is measured with, how the model computes attention. Fused attention
  (`sdpa`) has no second derivative on a CPU, so that what differentiates twice needs `eager`; where gradients are enough,
  `sdpa` is faster and smaller, and the gradient that it is compared with is computed in the same way;
- `product(v)`: Hv, all flat;
- `lambda_max(v, steps, limit)`: the largest eigenvalue, its residual (None where the library tells none), and how many
  products that took. Lanczos takes `steps` products from v; what iterates until it has converged to 1e-3 takes `limit` at most.
"""

import sys
from importlib.metadata import version

import torch
from failure import reason
from language_model import flat

#: What iterative methods stop at; PyHessian's default.
TOLERANCE = 1e-3


class HessianEigenthings:
    """`HessianOperator` with the loss of its Hugging Face helper, and its Lanczos, which takes a start vector."""

    #: Its own names of them.
    METHODS = {"exact": "autograd", "difference": "finite_difference"}
    ATTENTION = {"exact": "eager", "difference": "sdpa"}

    @staticmethod
    def version():
        return version("hessian-eigenthings")

    def __init__(self, model, products):
        from hessian_eigenthings import HessianOperator, hf_lm_loss

        batch = {"input_ids": model.tokens, "labels": model.tokens}
        self.operator = HessianOperator(model.model, [batch], hf_lm_loss(), method=self.METHODS[products])

    def product(self, v):
        return self.operator.matvec(v)

    def lambda_max(self, v, steps, _limit):
        from hessian_eigenthings import lanczos_tridiagonal

        run = lanczos_tridiagonal(self.operator, v, steps, reorthogonalize=True)
        beta = run.betas.double()
        tridiagonal = torch.diag(run.alphas.double()) + torch.diag(beta, 1) + torch.diag(beta, -1)
        values, vectors = torch.linalg.eigh(tridiagonal)
        return values[-1].item(), abs(vectors[-1, -1].item()) * run.last_beta, run.iterations

    def notes(self):
        return []


class Curvlinops:
    """`HessianLinearOperator`, and SciPy's `eigsh` on it, as in its example of eigenvalues.

    `model` as it is, or (`rewritten`) with the SiLU of the MLP written as x·σ(x): the same function, of which forward
    differentiation knows every part.
    """

    ATTENTION = {"exact": "eager", "rewritten": "eager"}

    @staticmethod
    def version():
        return version("curvlinops-for-pytorch")

    def __init__(self, model, products):
        from curvlinops import HessianLinearOperator

        if products == "rewritten":
            for layer in model.model.model.layers:
                layer.mlp.act_fn = Silu()
        logits = Logits(model.model)
        targets = model.tokens[:, 1:].reshape(-1)
        self.operator = HessianLinearOperator(
            logits,
            torch.nn.CrossEntropyLoss(),
            model.parameters,
            [(model.tokens, targets)],
        )

    def product(self, v):
        return (self.operator @ v).detach()

    def lambda_max(self, v, _steps, _limit):
        from scipy.sparse.linalg import LinearOperator, eigsh

        operator, count = self.operator.to_scipy(), 0

        def counted(x):
            nonlocal count
            count += 1
            return operator @ x

        wrapped = LinearOperator(operator.shape, matvec=counted, dtype=operator.dtype)
        values = eigsh(wrapped, k=1, which="LA", v0=v.numpy(), tol=TOLERANCE, return_eigenvectors=False)
        return float(values[0]), None, count

    def notes(self):
        return []


class PyHessian:
    """`hessian` of one batch, which differentiates once and keeps that graph for all products."""

    ATTENTION = {"exact": "eager"}

    @staticmethod
    def version():
        return version("PyHessian")

    def __init__(self, model, products):
        assert products == "exact"
        from pyhessian import hessian

        targets = model.tokens[:, 1:].reshape(-1)
        self.language_model = model
        self.hessian = hessian(
            Logits(model.model),
            torch.nn.functional.cross_entropy,
            data=(model.tokens, targets),
            cuda=False,
        )

    def product(self, v):
        from pyhessian.utils import hessian_vector_product

        v = self.language_model.split(v)
        return flat(hessian_vector_product(self.hessian.gradsH, self.hessian.params, v))

    def lambda_max(self, _v, _steps, limit):
        # By power iteration from a vector of its own: the eigenvalue of the largest magnitude. It tells no residual
        # and does not count its products, so that they are counted on their way.
        # The package's attribute of this name is the class.
        module = sys.modules[type(self.hessian).__module__]
        count, original = 0, module.hessian_vector_product

        def counted(*arguments):
            nonlocal count
            count += 1
            return original(*arguments)

        torch.manual_seed(0)
        module.hessian_vector_product = counted
        try:
            values, _ = self.hessian.eigenvalues(maxIter=limit, tol=TOLERANCE)
        finally:
            module.hessian_vector_product = original
        return float(values[0]), None, count

    def notes(self):
        """Its density, which our spectra would be compared with."""
        try:
            self.hessian.density(iter=2, n_v=1)
        except Exception as error:  # noqa: BLE001  As above.
            return [f"density(): {reason(error)}"]
        return []


class Silu(torch.nn.Module):
    """x·σ(x)."""

    def forward(self, x):
        return x * torch.sigmoid(x)


class Logits(torch.nn.Module):
    """The logits before every token but the first of each sequence: one row a target."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        logits = self.model(input_ids=tokens).logits[:, :-1]
        return logits.reshape(-1, logits.shape[-1])


LIBRARIES = {
    "hessian-eigenthings": HessianEigenthings,
    "curvlinops": Curvlinops,
    "PyHessian": PyHessian,
}
