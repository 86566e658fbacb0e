import torch

from mano_trainers.preflight.overfit import _Rates


def test_rates_of_an_optimizer_that_is_gone_are_not_those_of_the_next_one() -> None:
    """Python may give a freed object and the next one that is made the same `id`."""
    for _ in range(20):
        rates = _Rates()
        with rates.hook():
            for parameters, lr in ((1, 9.0), (3, 0.5)):
                weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(parameters)]
                optimizer = torch.optim.Adam(weights, lr=lr)
                sum(weights).backward()  # type: ignore[union-attr]
                optimizer.step()
                del optimizer
        assert rates.of_network() == [0.5]
