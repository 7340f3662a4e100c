"""Which of IPOPT's options may come from a file that somebody else has written.

IPOPT opens the files and libraries that its options name. A loaded solution therefore keeps only
options known to be harmless: numbers and strategies of the algorithm, and what it prints to the
console.
"""

import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np


# IPOPT 3.14's options reference, https://coin-or.github.io/Ipopt/OPTIONS.html, section by section.
_SAFE_NAMES = """
    tol s_max max_iter max_wall_time max_cpu_time dual_inf_tol constr_viol_tol compl_inf_tol
    acceptable_tol acceptable_iter acceptable_dual_inf_tol acceptable_constr_viol_tol
    acceptable_compl_inf_tol acceptable_obj_change_tol diverging_iterates_tol mu_target

    print_level sb print_timing_statistics print_info_string inf_pr_output print_frequency_iter
    print_frequency_time timing_statistics

    nlp_lower_bound_inf nlp_upper_bound_inf fixed_variable_treatment dependency_detector
    dependency_detection_with_rhs num_linear_variables kappa_d bound_relax_factor
    honor_original_bounds check_derivatives_for_naninf grad_f_constant jac_c_constant
    jac_d_constant hessian_constant gradient_approximation jacobian_approximation
    findiff_perturbation replace_bounds

    nlp_scaling_method obj_scaling_factor nlp_scaling_max_gradient nlp_scaling_obj_target_gradient
    nlp_scaling_constr_target_gradient nlp_scaling_min_value

    bound_push bound_frac slack_bound_push slack_bound_frac constr_mult_init_max
    bound_mult_init_val bound_mult_init_method least_square_init_primal least_square_init_duals

    warm_start_init_point warm_start_same_structure warm_start_bound_push warm_start_bound_frac
    warm_start_slack_bound_push warm_start_slack_bound_frac warm_start_mult_bound_push
    warm_start_mult_init_max warm_start_entire_iterate warm_start_target_mu

    mu_max_fact mu_max mu_min mu_strategy mu_oracle fixed_mu_oracle mu_init barrier_tol_factor
    mu_linear_decrease_factor mu_superlinear_decrease_power mu_allow_fast_monotone_decrease
    tau_min sigma_max sigma_min adaptive_mu_globalization adaptive_mu_kkterror_red_iters
    adaptive_mu_kkterror_red_fact adaptive_mu_restore_previous_iterate
    adaptive_mu_monotone_init_factor adaptive_mu_kkt_norm_type filter_margin_fact
    filter_max_margin adaptive_mu_safeguard_factor quality_function_norm_type
    quality_function_centrality quality_function_balancing_term
    quality_function_max_section_steps quality_function_section_sigma_tol
    quality_function_section_qf_tol

    line_search_method alpha_red_factor accept_every_trial_step accept_after_max_steps alpha_for_y
    alpha_for_y_tol tiny_step_tol tiny_step_y_tol watchdog_shortened_iter_trigger
    watchdog_trial_iter_max theta_max_fact theta_min_fact eta_phi delta s_phi s_theta gamma_phi
    gamma_theta alpha_min_frac max_soc kappa_soc obj_max_inc max_filter_resets
    filter_reset_trigger corrector_type skip_corr_if_neg_curv skip_corr_in_monotone_mode
    corrector_compl_avrg_red_fact soc_method nu_init nu_inc rho kappa_sigma recalc_y
    recalc_y_feas_tol slack_move constraint_violation_norm_type

    linear_solver linear_system_scaling linear_scaling_on_demand mehrotra_algorithm
    fast_step_computation min_refinement_steps max_refinement_steps residual_ratio_max
    residual_ratio_singular residual_improvement_factor neg_curv_test_tol neg_curv_test_reg
    max_hessian_perturbation min_hessian_perturbation perturb_inc_fact_first perturb_inc_fact
    perturb_dec_fact first_hessian_perturbation jacobian_regularization_value
    jacobian_regularization_exponent perturb_always_cd

    expect_infeasible_problem expect_infeasible_problem_ctol expect_infeasible_problem_ytol
    start_with_resto soft_resto_pderror_reduction_factor max_soft_resto_iters
    required_infeasibility_reduction max_resto_iter evaluate_orig_obj_at_resto_trial
    resto_penalty_parameter resto_proximity_weight bound_mult_reset_threshold
    constr_mult_reset_threshold resto_failure_feasibility_threshold

    hessian_approximation hessian_approximation_space limited_memory_aug_solver
    limited_memory_max_history limited_memory_update_type limited_memory_initialization
    limited_memory_init_val limited_memory_init_val_max limited_memory_init_val_min
    limited_memory_max_skipping limited_memory_special_for_resto

    derivative_test derivative_test_first_index derivative_test_perturbation derivative_test_tol
    derivative_test_print_all point_perturbation_radius

    ma27_pivtol ma27_pivtolmax ma27_liw_init_factor ma27_la_init_factor ma27_meminc_factor
    ma27_skip_inertia_check ma27_ignore_singularity
    ma57_pivtol ma57_pivtolmax ma57_pre_alloc ma57_pivot_order ma57_automatic_scaling
    ma57_block_size ma57_node_amalgamation ma57_small_pivot_flag
    ma86_nemin ma86_small ma86_static ma86_u ma86_umax ma86_scaling ma86_order
    ma97_nemin ma97_small ma97_u ma97_umax ma97_scaling ma97_scaling1 ma97_switch1 ma97_scaling2
    ma97_switch2 ma97_scaling3 ma97_switch3 ma97_order ma97_solve_blas3
    mumps_pivtol mumps_pivtolmax mumps_mem_percent mumps_permuting_scaling mumps_pivot_order
    mumps_scaling mumps_dep_tol
"""
_HARMLESS = frozenset(_SAFE_NAMES.split())
# Not "ma77", which keeps its factors in files of the working folder, nor "custom".
_LINEAR_SOLVERS = ("ma27", "ma57", "ma86", "ma97", "mumps", "pardiso", "pardisomkl", "spral")
# IPOPT's names of choices, such as "quality-function" or "complete+2x2"; no path.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_-]*")


def harmless(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`options` of IPOPT in two parts: those that may come from a file, and the others.

    The first holds what is known to name neither a file nor a library and has a number or a
    plain word as its value.
    """
    kept = {name: value for name, value in options.items() if _is_harmless(name, value)}
    return kept, {name: value for name, value in options.items() if name not in kept}


def of_loaded(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of an `Ipopt` that was read from a file, without options that may do harm.

    Warns of those that are left out.
    """
    kept, dropped = harmless(fields["options"])
    if dropped:
        warnings.warn(
            "The loaded file sets options of IPOPT that may name files or libraries, or are not "
            f"known to be harmless; they were left out: {', '.join(sorted(dropped))}. If you trust "
            "the file, pass a jc.Ipopt with them.",
            UserWarning,
            stacklevel=2,
        )
    return fields | {"options": kept}


def _is_harmless(name: str, value: Any) -> bool:
    if name == "linear_solver":
        return value in _LINEAR_SOLVERS if isinstance(value, str) else False
    if isinstance(value, str):
        return name in _HARMLESS and _WORD.fullmatch(value) is not None
    return name in _HARMLESS and isinstance(value, (bool, int, float, np.number, np.bool_))
