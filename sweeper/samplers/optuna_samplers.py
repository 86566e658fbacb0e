"""Optuna's samplers, each rebuilt for one draw."""

import warnings

import optuna

from sweeper.samplers.custom import custom_sampler
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.sections import SamplerConfig

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # our tests pin what we use


def sampler_of(spec: SweepSpec, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler of one draw. Its arguments are written out, so an Optuna upgrade cannot change a study."""
    config: SamplerConfig = spec.sampler
    differing = spec.warm_start is not None or any(dimension.when for dimension in spec.search_space.values())
    match config.name:
        case "tpe":
            return optuna.samplers.TPESampler(
                n_startup_trials=config.startup_trials,
                n_ei_candidates=24,
                multivariate=True,
                group=differing,  # parameters that not all trials have are learned together with their kind
                constant_liar=True,
                seed=seed,
            )
        case "gp":
            return optuna.samplers.GPSampler(
                n_startup_trials=config.startup_trials,
                independent_sampler=optuna.samplers.RandomSampler(seed=seed),
                deterministic_objective=False,
                warn_independent_sampling=False,
                seed=seed,
            )
        case "nsga2":
            return _Nsga2(
                population_size=config.population,
                mutation_prob=None,  # 1 / number of parameters
                crossover=optuna.samplers.nsgaii.UniformCrossover(swapping_prob=0.5),
                crossover_prob=0.9,
                swapping_prob=0.5,
                seed=seed,
            )
        case "cmaes":
            from sweeper.samplers.cma_es import CmaEsSampler  # slow to import: scipy

            return CmaEsSampler(spec, seed)
        case _ if config.is_custom:
            return custom_sampler(config, seed)
        case _:
            return optuna.samplers.RandomSampler(seed=seed)


class _Nsga2(optuna.samplers.NSGAIISampler):
    """NSGA-II whose generations follow from the trials' numbers, so that it needs no state of its own."""

    def get_trial_generation(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> int:
        assert self.population_size is not None
        return trial.number // self.population_size

    def get_population(self, study: optuna.Study, generation: int) -> list[optuna.trial.FrozenTrial]:
        finished = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
        return [trial for trial in finished if self.get_trial_generation(study, trial) == generation]

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[optuna.trial.FrozenTrial]:
        parents = super().get_parent_population(study, generation)
        return parents if len(parents) > 1 else []  # a single one has no mate
